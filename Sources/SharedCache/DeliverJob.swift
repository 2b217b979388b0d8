internal import CacheModel
internal import ChunkStore

/// Makes what was delivered the view, for some layers: brings the rows that others were among, and writes all positions. Runs
/// on a worker.
struct DeliverJob: Sendable {
    let rows: DeliveredRows
    let layers: Range<Int>
    /// What the sealed chunks keep.
    let kept: [KeptOffsets]
    let finish: SealJob.Finish

    func run() {
        let slabs = rows.slabs
        for layer in layers {
            let shown = 0..<rows.shown(layer: layer)
            for head in 0..<slabs.layout.geometry.heads {
                for (index, kept) in kept.enumerated() {
                    let offsets = kept.offsets(layer: layer, head: head)
                    rows.bring(offsets, of: index, layer: layer, head: head, to: shown)
                    slabs.setPositions(
                        layer: layer, head: head, row: rows.row(index, layer: layer), offsets, from: rows.chunks[index].firstPosition)
                }
                rows.bringWindow(layer: layer, head: head, to: shown)
                setWindowPositions(layer: layer, head: head)
            }
            finish.discard(slabs, layer: layer)
        }
    }

    private func setWindowPositions(layer: Int, head: Int) {
        guard rows.sealed < rows.chunks.count else { return }
        let (first, row) = (rows.chunks[rows.sealed].firstPosition, rows.row(rows.sealed, layer: layer))
        rows.slabs.setPositions(layer: layer, head: head, rows: row..<row + finish.boundary - 1 - first, from: first)
    }
}
