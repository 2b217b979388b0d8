internal import CacheModel
internal import ChunkStore
internal import WireProtocol

/// Chooses among chunks that lie in inlets, for some layers, and brings what stays to the rows that nobody sees yet. Runs on a
/// worker.
struct ChoiceJob: Sendable {
    let rows: DeliveredRows
    let layers: Range<Int>

    struct Outcome: Sendable {
        /// Per chunk: kept offsets from the object's first token, [layer in `layers`][head][kept] flat.
        var kept: [[UInt32]]
        /// Over all chunks, layers and heads.
        var abnormalTokens: Int
    }

    func run() -> Outcome {
        var kept = [[UInt32]](repeating: [], count: rows.sealed)
        var chooser = ChunkChooser(rows.slabs)
        for layer in layers {
            let hidden = rows.shown(layer: layer)..<rows.slabs.layout.wire.rows
            for head in 0..<rows.slabs.layout.geometry.heads {
                for index in kept.indices {
                    let chosen = choose(index, layer: layer, head: head, with: &chooser)
                    rows.bring(chosen.span, of: index, layer: layer, head: head, to: hidden)
                    kept[index] += chosen
                }
                rows.bringWindow(layer: layer, head: head, to: hidden)
            }
        }
        return Outcome(kept: kept, abnormalTokens: chooser.abnormalTokens)
    }

    private func choose(_ index: Int, layer: Int, head: Int, with chooser: inout ChunkChooser) -> [UInt32] {
        let policy = rows.slabs.layout.policy
        let number = rows.first + index
        func tokens(_ index: Int) -> RowRange? {
            // With the last sealed chunk only the one after it is whole.
            guard index <= rows.sealed else { return nil }
            return rows.chunks[index].rows(layer: layer, head: head, from: rows.first + index == 0 ? policy.sink : 0)
        }
        let own = tokens(index)!
        if index == 0 || !policy.isCompressed(layer: layer) { chooser.summarize(number, own, layer: layer, head: head) }
        return chooser.choose(number, own, next: tokens(index + 1)!, ahead: tokens(index + 2), layer: layer, head: head)
    }
}
