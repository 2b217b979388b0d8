internal import CacheModel
internal import ChunkStore

/// Chooses among chunks that lie in inlets, for some layers. Runs on a worker.
struct ChoiceJob: Sendable {
    let slabs: Slabs
    let layers: Range<Int>
    /// The number of `chunks[0]`.
    let first: Int
    /// The chunks to choose among, and the one after them; none where there is nothing to choose among.
    let chunks: [RawChunk]

    struct Outcome: Sendable {
        /// Per chunk: kept offsets from the object's first token, [layer in `layers`][head][kept] flat.
        var kept: [[UInt32]]
        /// Over all chunks, layers and heads.
        var abnormalTokens: Int
    }

    func run() -> Outcome {
        let policy = slabs.layout.policy
        var kept = [[UInt32]](repeating: [], count: max(0, chunks.count - 1))
        var chooser = ChunkChooser(slabs)
        for layer in layers {
            for head in 0..<slabs.layout.geometry.heads {
                func rows(_ index: Int) -> RowRange? {
                    guard index < chunks.count else { return nil }
                    return chunks[index].rows(layer: layer, head: head, from: first + index == 0 ? policy.sink : 0)
                }
                for index in kept.indices {
                    let (number, own) = (first + index, rows(index)!)
                    if index == 0 || !policy.isCompressed(layer: layer) { chooser.summarize(number, own, layer: layer, head: head) }
                    kept[index] += chooser.choose(
                        number, own, next: rows(index + 1)!, ahead: rows(index + 2), layer: layer, head: head)
                }
            }
        }
        return Outcome(kept: kept, abnormalTokens: chooser.abnormalTokens)
    }
}
