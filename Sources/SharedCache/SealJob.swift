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
