internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// Between objects on disk and rows in shared memory: decoded straight to their places.
extension Slabs {
    /// Fills in what stays in memory of an object's tokens in some layers: kept rows, positions, summaries, and with layer 0 the ids. An
    /// object's rows follow those of the chunks before it, be it a sealed chunk's or the window's, of which everything stays.
    /// - Parameter kept: the bytes of `keptRange(layers:)`.
    func fill(from index: ObjectIndex, layers: Range<Int>, kept: FileBytes, _ scratch: CodecScratch) throws(CacheError) {
        let (header, slab, control, chunk) = (index.header, slab, control, index.header.chunk)
        let start = index.keptRange(layers: layers).lowerBound
        if layers.lowerBound == 0 {
            slab.copy(
                try index.ids(in: kept.bytes(index.idsRange, from: start)),
                to: layout.ids(tokens: header.firstPosition..<header.firstPosition).lowerBound)
        }
        var offsets = KeptOffsets(for: header)
        for layer in layers {
            let part = kept.bytes(index.keptRange(layer: layer), from: start)
            let row = chunk == 0 ? 0 : layout.firstRow(ofChunk: chunk, layer: layer)
            let rows = row..<row + index.keptCount(layer: layer)
            try index.decodeKept(
                layer: layer, from: part, keys: slab.mutableBytes(layout.keys(layer: layer, rows: rows)),
                keyStride: layout.wire.keyHeadStride, values: slab.mutableBytes(layout.values(layer: layer, rows: rows)),
                valueStride: layout.wire.valueHeadStride, scratch: scratch)
            try index.decodeOffsets(layer: layer, from: part, into: &offsets)
            for head in 0..<layout.geometry.heads {
                setPositions(layer: layer, head: head, row: row, offsets.offsets(layer: layer, head: head), from: header.firstPosition)
            }
            // Empty for a window.
            control.copy(try index.summaries(layer: layer, in: part), to: layout.summary(layer: layer, chunk: chunk).lowerBound)
        }
    }

    /// Writes the positions of the rows from `row` on: `offsets` counted from `first`.
    func setPositions(layer: Int, head: Int, row: Int, _ offsets: Span<UInt32>, from first: Int) {
        let positions = layout.positions(layer: layer, head: head, rows: row..<row + offsets.count).lowerBound
        for index in offsets.indices { control.store(Int32(first + Int(offsets[index])), at: positions + 4 * index) }
    }

    /// The offsets from the chunk's first token of the tokens of sealed chunk `chunk` that were evicted in one head: those that
    /// its kept rows' positions leave out.
    func evictedOffsets(chunk: Int, layer: Int, head: Int) -> [UInt32] {
        let row = layout.firstRow(ofChunk: chunk, layer: layer)
        let first = layout.policy.firstPosition(ofChunk: chunk)
        let positions = layout.positions(layer: layer, head: head, rows: row..<row + layout.policy.kept(inLayer: layer))
        var isKept = [Bool](repeating: false, count: layout.policy.lag)
        for offset in stride(from: positions.lowerBound, to: positions.upperBound, by: 4) {
            isKept[Int(control.load(at: offset, as: Int32.self)) - first] = true
        }
        return isKept.indices.filter { !isKept[$0] }.map(UInt32.init)
    }
}

extension RawChunk {
    /// Room for tokens that are to be filled in.
    convenience init(geometry: Geometry, firstPosition: Int, tokenCount: Int, _ pool: BufferPool) {
        let bytes = Self.byteCount(geometry: geometry, tokenCount: tokenCount)
        self.init(
            geometry: geometry, firstPosition: firstPosition, tokenCount: tokenCount, buffer: pool.take(byteCount: max(1, bytes)))
    }

    /// Copies tokens at positions `tokens`, which both hold, of every layer and head, with their ids.
    func copy(tokens: Range<Int>, from other: RawChunk) {
        func copy(_ bytesPerToken: Int, _ own: Range<Int>, _ others: Range<Int>) {
            let to = own.lowerBound + (tokens.lowerBound - firstPosition) * bytesPerToken
            let from = others.lowerBound + (tokens.lowerBound - other.firstPosition) * bytesPerToken
            buffer.copy(from..<from + tokens.count * bytesPerToken, of: other.buffer, to: to)
        }
        for layer in 0..<geometry.layers {
            for head in 0..<geometry.heads {
                copy(geometry.keyBytes, keys(layer: layer, head: head), other.keys(layer: layer, head: head))
                copy(geometry.valueBytes, values(layer: layer, head: head), other.values(layer: layer, head: head))
            }
        }
        copy(4, ids, other.ids)
    }
}

extension FullLayout {
    /// Decodes one layer of a chunk's object to its tokens' places.
    func fill(
        _ file: SharedMemory, layer: Int, from index: ObjectIndex, kept: FileBytes, evicted: FileBytes, _ scratch: CodecScratch
    ) throws(CacheError) {
        let header = index.header
        let tokens = header.firstPosition..<header.firstPosition + header.tokenCount
        let last = header.geometry.heads - 1
        let keysOut = keys(head: 0, tokens: tokens, header.geometry).lowerBound..<keys(head: last, tokens: tokens, header.geometry).upperBound
        let valuesOut =
            values(head: 0, tokens: tokens, header.geometry).lowerBound..<values(head: last, tokens: tokens, header.geometry).upperBound
        try index.decodeRows(
            layer: layer, kept: kept.all, evicted: evicted.all, keys: file.mutableBytes(keysOut), keyStride: keyHeadStride,
            values: file.mutableBytes(valuesOut), valueStride: valueHeadStride, scratch: scratch)
    }
}
