internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Moving rows between slabs and raw chunks. Every function handles one head of one layer, and is called from workers for
/// disjoint heads at a time.
extension SlabLayout {
    /// Copies rows `rows` of one head of a slab file to tokens `tokens…` of `chunk`.
    func copy(rows: Range<Int>, layer: Int, head: Int, of slab: some MemoryRegion, to chunk: RawChunk, at token: Int) {
        let toKeys = chunk.keys(layer: layer, head: head).lowerBound + token * geometry.keyBytes
        let toValues = chunk.values(layer: layer, head: head).lowerBound + token * geometry.valueBytes
        chunk.buffer.copy(keys(layer: layer, head: head, rows: rows), of: slab, to: toKeys)
        chunk.buffer.copy(values(layer: layer, head: head, rows: rows), of: slab, to: toValues)
    }
}

extension Slabs {
    /// Copies rows `rows` of one head to tokens `tokens…` of `chunk`.
    func copy(rows: Range<Int>, layer: Int, head: Int, to chunk: RawChunk, at token: Int) {
        layout.copy(rows: rows, layer: layer, head: head, of: slab, to: chunk, at: token)
    }

    /// Copies tokens `tokens` of `chunk` to the rows of one head that begin at `row`.
    func copy(from chunk: RawChunk, tokens: Range<Int>, layer: Int, head: Int, toRow row: Int) {
        let geometry = layout.geometry
        let keys = chunk.keys(layer: layer, head: head).lowerBound
        let values = chunk.values(layer: layer, head: head).lowerBound
        slab.copy(
            keys + tokens.lowerBound * geometry.keyBytes..<keys + tokens.upperBound * geometry.keyBytes, of: chunk.buffer,
            to: layout.keys(layer: layer, head: head, rows: row..<row).lowerBound)
        slab.copy(
            values + tokens.lowerBound * geometry.valueBytes..<values + tokens.upperBound * geometry.valueBytes, of: chunk.buffer,
            to: layout.values(layer: layer, head: head, rows: row..<row).lowerBound)
    }

    /// Moves rows of one head left, onto rows that may overlap them.
    func moveLeft(rows: Range<Int>, layer: Int, head: Int, toRow row: Int) {
        guard row != rows.lowerBound, !rows.isEmpty else { return }
        slab.move(layout.keys(layer: layer, head: head, rows: rows), to: layout.keys(layer: layer, head: head, rows: row..<row).lowerBound)
        slab.move(
            layout.values(layer: layer, head: head, rows: rows), to: layout.values(layer: layer, head: head, rows: row..<row).lowerBound)
    }
}
