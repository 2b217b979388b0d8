internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Seals a run of chunks that lie in the slabs, for some layers: stages every token of each chunk, scores it by the next, and
/// compacts the rows in place. Runs on a worker; jobs for other layers of the same session run beside it, and the loop waits
/// for all of them.
///
///     before   [ sink | kept … | chunk first | chunk first+1 | … | remainder ]
///     after    [ sink | kept … kept | window ]
struct SealJob: Sendable {
    let slabs: Slabs
    let layers: Range<Int>
    /// The chunks to seal, in order: `staged[i]` takes chunk `first + i` whole.
    let first: Int
    let staged: [RawChunk]
    let finish: Finish

    /// What the rows are to be when all is done.
    struct Finish: Sendable {
        /// Tokens that the commit declared.
        var tokens: Int
        /// Positions are written ahead up to here.
        var boundary: Int
        /// Rows, per layer, that may have memory: those beyond the new end give it back.
        var touchedRows: [Int]

        /// Gives back what lies beyond the rows of `layer`.
        func discard(_ slabs: Slabs, layer: Int) {
            let end = slabs.layout.policy.residentTokens(tokens: tokens, layer: layer)
            if end < touchedRows[layer] { slabs.discard(layer: layer, rows: end..<touchedRows[layer]) }
        }
    }

    private var policy: Policy { slabs.layout.policy }
    private var geometry: Geometry { slabs.layout.geometry }

    func run() -> ChoiceJob.Outcome {
        var kept = [[UInt32]](repeating: [], count: staged.count)
        var chooser = ChunkChooser(slabs)
        for layer in layers {
            for head in 0..<geometry.heads {
                for index in staged.indices { kept[index] += seal(index, layer: layer, head: head, with: &chooser) }
                bringWindow(layer: layer, head: head)
            }
            finish.discard(slabs, layer: layer)
        }
        return ChoiceJob.Outcome(kept: kept, abnormalTokens: chooser.abnormalTokens)
    }

    /// The row at which chunk `chunk`, not yet compacted, begins.
    private func sourceRow(_ chunk: Int, layer: Int) -> Int {
        slabs.layout.firstRow(ofChunk: first, layer: layer) + (chunk - first) * policy.lag
    }

    private func seal(_ index: Int, layer: Int, head: Int, with chooser: inout ChunkChooser) -> [UInt32] {
        let number = first + index
        let row = sourceRow(number, layer: layer)
        // Chunk 0 is staged with the sink before it.
        let lead = number == 0 ? policy.sink : 0
        slabs.copy(rows: row - lead..<row + policy.lag, layer: layer, head: head, to: staged[index], at: 0)
        func rows(_ ahead: Int) -> RowRange {
            slabs.range(rows: row + ahead * policy.lag..<row + (ahead + 1) * policy.lag, layer: layer, head: head)
        }
        if index == 0 || !policy.isCompressed(layer: layer) { chooser.summarize(number, rows(0), layer: layer, head: head) }
        let kept = chooser.choose(
            number, rows(0), next: rows(1), ahead: index + 1 < staged.count ? rows(2) : nil, layer: layer, head: head)
        compact(kept, chunk: number, from: row - lead, layer: layer, head: head)
        return kept
    }

    /// Moves the kept tokens of one chunk, ascending, to their place behind those of the chunks before it.
    /// - Parameter row: that of the object's first token.
    private func compact(_ kept: [UInt32], chunk: Int, from row: Int, layer: Int, head: Int) {
        let target = chunk == 0 ? 0 : slabs.layout.firstRow(ofChunk: chunk, layer: layer)
        for (index, offset) in kept.enumerated() {
            let source = row + Int(offset)
            slabs.moveLeft(rows: source..<source + 1, layer: layer, head: head, toRow: target + index)
        }
        slabs.setPositions(layer: layer, head: head, row: target, kept.span, from: TokenSpan(chunk: chunk, policy: policy).first)
    }

    /// Moves the unsealed rows of one head to the end of the kept ones, and writes their positions and those of the rows to come.
    private func bringWindow(layer: Int, head: Int) {
        let sealed = first + staged.count
        let position = policy.firstPosition(ofChunk: sealed)
        let source = sourceRow(sealed, layer: layer)
        let target = slabs.layout.firstRow(ofChunk: sealed, layer: layer)
        slabs.moveLeft(rows: source..<source + finish.tokens - position, layer: layer, head: head, toRow: target)
        slabs.setPositions(layer: layer, head: head, rows: target..<target + finish.boundary - 1 - position, from: position)
    }
}

/// Brings what a delivery leaves in memory into the slabs, for some layers: the kept tokens of its sealed chunks, then the
/// window. Runs on a worker.
struct DeliverJob: Sendable {
    let slabs: Slabs
    let layers: Range<Int>
    /// The number of `chunks[0]`.
    let first: Int
    let chunks: [RawChunk]
    /// What the sealed ones among them keep.
    let kept: [KeptOffsets]
    let finish: SealJob.Finish

    func run() {
        for layer in layers {
            for head in 0..<slabs.layout.geometry.heads {
                for (index, kept) in kept.enumerated() { bring(kept.offsets(layer: layer, head: head), index, layer: layer, head: head) }
                bringWindow(layer: layer, head: head)
            }
            finish.discard(slabs, layer: layer)
        }
    }

    private func row(_ chunk: Int, layer: Int) -> Int { chunk == 0 ? 0 : slabs.layout.firstRow(ofChunk: chunk, layer: layer) }

    private func bring(_ kept: Span<UInt32>, _ index: Int, layer: Int, head: Int) {
        let (chunk, target) = (chunks[index], row(first + index, layer: layer))
        let (slab, layout) = (slabs.slab, slabs.layout)
        func gather(_ rowBytes: Int, from source: Int, to place: Int) {
            for index in kept.indices {
                let at = source + Int(kept[index]) * rowBytes
                slab.copy(at..<at + rowBytes, of: chunk.buffer, to: place + index * rowBytes)
            }
        }
        let rows = target..<target + kept.count
        gather(
            layout.geometry.keyBytes, from: chunk.keys(layer: layer, head: head).lowerBound,
            to: layout.keys(layer: layer, head: head, rows: rows).lowerBound)
        gather(
            layout.geometry.valueBytes, from: chunk.values(layer: layer, head: head).lowerBound,
            to: layout.values(layer: layer, head: head, rows: rows).lowerBound)
        slabs.setPositions(layer: layer, head: head, row: target, kept, from: chunk.firstPosition)
    }

    private func bringWindow(layer: Int, head: Int) {
        let window = chunks[kept.count...]
        guard let position = window.first?.firstPosition else { return }
        let target = row(first + kept.count, layer: layer)
        for chunk in window where chunk.firstPosition < finish.tokens {
            let count = min(chunk.tokenCount, finish.tokens - chunk.firstPosition)
            slabs.copy(from: chunk, tokens: 0..<count, layer: layer, head: head, toRow: target + chunk.firstPosition - position)
        }
        slabs.setPositions(layer: layer, head: head, rows: target..<target + finish.boundary - 1 - position, from: position)
    }
}
