internal import CacheModel
internal import ChunkStore
internal import LagKV
internal import LinuxKit

/// The rows of one head of a layer, wherever they are.
struct RowRange: Sendable {
    let memory: MemorySlice
    /// Bytes of `memory`.
    let keys: Range<Int>
    let values: Range<Int>
}

extension RawChunk {
    /// The rows of one head from token `token` of this chunk on, to its end.
    func rows(layer: Int, head: Int, from token: Int) -> RowRange {
        let (keys, values) = (keys(layer: layer, head: head), values(layer: layer, head: head))
        return RowRange(
            memory: buffer, keys: keys.lowerBound + token * geometry.keyBytes..<keys.upperBound,
            values: values.lowerBound + token * geometry.valueBytes..<values.upperBound)
    }
}

extension Slabs {
    /// Rows `rows` of one head.
    func range(rows: Range<Int>, layer: Int, head: Int) -> RowRange {
        RowRange(
            memory: slabSlice, keys: layout.keys(layer: layer, head: head, rows: rows),
            values: layout.values(layer: layer, head: head, rows: rows))
    }
}

/// Says which tokens of chunks stay in memory, and publishes the summaries of their keys. One for each worker at a time.
struct ChunkChooser: ~Copyable {
    private let slabs: Slabs
    private var scorer: ChunkScorer
    /// Tokens with a number that is not finite, over all that was chosen.
    private(set) var abnormalTokens = 0

    init(_ slabs: Slabs) {
        self.slabs = slabs
        scorer = ChunkScorer(geometry: slabs.layout.geometry, policy: slabs.layout.policy)
    }

    /// Publishes the bounds of one chunk's keys. Choosing does that for the chunk after the one it scores, so only the first
    /// chunk of a run needs it, and layers that are not scored.
    func summarize(_ chunk: Int, _ rows: RowRange, layer: Int, head: Int) {
        let (layout, control) = (slabs.layout, slabs.control)
        var lo = control.mutableBytes(layout.lowerBounds(layer: layer, chunk: chunk, head: head))
        var hi = control.mutableBytes(layout.upperBounds(layer: layer, chunk: chunk, head: head))
        let memory = rows.memory
        Kernels.best.bounds(
            of: memory.bytes(rows.keys), dim: layout.geometry.keyDim, element: layout.geometry.element, lo: &lo, hi: &hi)
    }

    /// Scores one chunk of one head by the next, publishes the next one's summary, and says which tokens stay.
    /// - Parameters:
    ///   - rows, next: the chunk's tokens without a sink, and the next chunk's.
    ///   - ahead: what will be scored by next, if it is known.
    /// - Returns: offsets from the object's first token, ascending, those of the sink among them.
    mutating func choose(
        _ chunk: Int, _ rows: RowRange, next: RowRange, ahead: RowRange?, layer: Int, head: Int
    ) -> [UInt32] {
        let (layout, control) = (slabs.layout, slabs.control)
        let policy = layout.policy
        // Chunk 0's object begins with the sink.
        let lead = UInt32(chunk == 0 ? policy.sink : 0)
        guard policy.isCompressed(layer: layer) else { return Array(0..<lead + UInt32(policy.lag)) }
        var lo = control.mutableBytes(layout.lowerBounds(layer: layer, chunk: chunk + 1, head: head))
        var hi = control.mutableBytes(layout.upperBounds(layer: layer, chunk: chunk + 1, head: head))
        var kept = [UInt32](repeating: 0, count: policy.keptPerChunk)
        var span = kept.mutableSpan
        let (memory, nextMemory, aheadMemory) = (rows.memory, next.memory, (ahead ?? next).memory)
        abnormalTokens += scorer.select(
            keys: memory.bytes(rows.keys), values: memory.bytes(rows.values), nextKeys: nextMemory.bytes(next.keys),
            nextValues: nextMemory.bytes(next.values), ahead: aheadMemory.bytes(ahead?.keys ?? 0..<0), kept: &span, lo: &lo, hi: &hi)
        return Array(0..<lead) + kept.map { $0 + lead }
    }
}
