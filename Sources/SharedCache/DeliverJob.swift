internal import CacheModel
internal import ChunkStore
internal import LinuxKit

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
