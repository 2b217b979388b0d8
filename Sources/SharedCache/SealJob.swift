internal import CacheModel
internal import ChunkStore
internal import LagKV
internal import LinuxKit

/// Seals a run of chunks for some layers: stages every token of each chunk, scores it by the next, and compacts the rows in
/// place. Runs on a worker; jobs for other layers of the same session run beside it, and the loop waits for all of them.
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

    struct Finish: Sendable {
        /// Tokens that the commit declared.
        var tokens: Int
        /// Positions are written ahead up to here.
        var boundary: Int
        /// Rows, per layer, that may have been touched: those beyond the new end go back to the system. Nil while another commit follows.
        var touchedRows: [Int]?
    }

    struct Outcome: Sendable {
        /// Per staged chunk: kept offsets from the chunk's first position, [layer in `layers`][head][kept] flat.
        var kept: [[UInt32]]
        /// Tokens with a number that is not finite, over all chunks, layers and heads.
        var abnormalTokens: Int
    }

    private var policy: Policy { slabs.layout.policy }
    private var geometry: Geometry { slabs.layout.geometry }

    func run() -> Outcome {
        var outcome = Outcome(kept: Array(repeating: [], count: staged.count), abnormalTokens: 0)
        var scorer = ChunkScorer(geometry: geometry, policy: policy)
        for layer in layers {
            for head in 0..<geometry.heads {
                seal(layer: layer, head: head, with: &scorer, into: &outcome)
                bringWindow(layer: layer, head: head)
            }
            if let touched = finish.touchedRows {
                let end = policy.residentTokens(tokens: finish.tokens, layer: layer)
                if end < touched[layer] { slabs.discard(layer: layer, rows: end..<touched[layer]) }
            }
        }
        return outcome
    }

    /// The row at which chunk `chunk`, not yet compacted, begins.
    private func sourceRow(_ chunk: Int, layer: Int) -> Int {
        slabs.layout.firstRow(ofChunk: first, layer: layer) + (chunk - first) * policy.lag
    }

    private func seal(layer: Int, head: Int, with scorer: inout ChunkScorer, into outcome: inout Outcome) {
        for (index, chunk) in staged.enumerated() {
            let number = first + index
            let row = sourceRow(number, layer: layer)
            // Chunk 0 is staged with the sink before it.
            let lead = number == 0 ? policy.sink : 0
            slabs.copy(rows: row - lead..<row + policy.lag, layer: layer, head: head, to: chunk, at: 0)
            if index == 0 || !policy.isCompressed(layer: layer) { summarize(number, row: row, layer: layer, head: head) }

            let kept = choose(chunk: number, row: row, layer: layer, head: head, with: &scorer, &outcome.abnormalTokens)
            outcome.kept[index].append(contentsOf: (0..<lead).lazy.map(UInt32.init))
            outcome.kept[index].append(contentsOf: kept.lazy.map { $0 + UInt32(lead) })
            compact(kept, chunk: number, row: row, layer: layer, head: head)
        }
    }

    /// Publishes the bounds of one chunk's keys. Scoring does that for the chunk after the one it scores, so only the first
    /// chunk of a run needs it, and layers that are not scored.
    private func summarize(_ chunk: Int, row: Int, layer: Int, head: Int) {
        let (slab, control) = (slabs.slab, slabs.control)
        let keys = slab.bytes(slabs.layout.keys(layer: layer, head: head, rows: row..<row + policy.lag))
        var lo = control.mutableBytes(slabs.layout.lowerBounds(layer: layer, chunk: chunk, head: head))
        var hi = control.mutableBytes(slabs.layout.upperBounds(layer: layer, chunk: chunk, head: head))
        Kernels.best.bounds(of: keys, dim: geometry.keyDim, element: geometry.element, lo: &lo, hi: &hi)
    }

    /// Scores one chunk of one head by the next, publishes the next one's summary, and says which tokens stay.
    private func choose(
        chunk: Int, row: Int, layer: Int, head: Int, with scorer: inout ChunkScorer, _ abnormal: inout Int
    ) -> [UInt32] {
        guard policy.isCompressed(layer: layer) else { return (0..<UInt32(policy.lag)).map { $0 } }
        let (layout, slab, control) = (slabs.layout, slabs.slab, slabs.control)
        let rows = row..<row + policy.lag
        let next = rows.upperBound..<rows.upperBound + policy.lag
        var lo = control.mutableBytes(layout.lowerBounds(layer: layer, chunk: chunk + 1, head: head))
        var hi = control.mutableBytes(layout.upperBounds(layer: layer, chunk: chunk + 1, head: head))
        // What comes next in memory: the chunk after, as long as this run seals it too.
        let ahead = chunk + 1 < first + staged.count ? next.upperBound..<next.upperBound + policy.lag : next.upperBound..<next.upperBound
        var kept = [UInt32](repeating: 0, count: policy.keptPerChunk)
        var keptSpan = kept.mutableSpan
        abnormal += scorer.select(
            keys: slab.bytes(layout.keys(layer: layer, head: head, rows: rows)),
            values: slab.bytes(layout.values(layer: layer, head: head, rows: rows)),
            nextKeys: slab.bytes(layout.keys(layer: layer, head: head, rows: next)),
            nextValues: slab.bytes(layout.values(layer: layer, head: head, rows: next)),
            ahead: slab.bytes(layout.keys(layer: layer, head: head, rows: ahead)), kept: &keptSpan, lo: &lo, hi: &hi)
        return kept
    }

    /// Moves the kept tokens of one chunk, ascending, to their place behind the kept tokens of the chunks before it.
    private func compact(_ kept: [UInt32], chunk: Int, row: Int, layer: Int, head: Int) {
        let target = slabs.layout.firstRow(ofChunk: chunk, layer: layer)
        for (index, offset) in kept.enumerated() {
            let source = row + Int(offset)
            slabs.moveLeft(rows: source..<source + 1, layer: layer, head: head, toRow: target + index)
        }
        let position = policy.firstPosition(ofChunk: chunk)
        slabs.setPositions(layer: layer, head: head, row: target, kept.span, from: position)
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
