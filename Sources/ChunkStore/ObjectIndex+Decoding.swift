public import CacheModel
public import LinuxKit

/// Blocks back to tokens.
///
/// Every function takes the bytes of exactly one of the index's ranges, checks the sums of the blocks it needs, and writes
/// where it is told, without a copy between. It throws `corrupt` for wrong bytes; what it was to write is undefined then.
/// Strides are bytes from one head's first row to the next one's, at least the rows' own length.
extension ObjectIndex {
    /// Which tokens of `layer` are in the kept part.
    /// - Parameters:
    ///   - part: the bytes of `keptRange(layer:)`.
    ///   - offsets: made by `KeptOffsets(for: header)`.
    public func decodeOffsets(layer: Int, from part: RawSpan, into offsets: inout KeptOffsets) throws(CacheError) {
        let block = Block.kept(layer: layer, .map)
        let map = try verified(block, in: part, of: keptRange(layer: layer))
        let headBytes = KeptMap.byteCount(tokens: header.tokenCount)
        for head in 0..<header.geometry.heads {
            var target = offsets.mutableOffsets(layer: layer, head: head)
            precondition(target.count == keptCount(layer: layer), "room for other offsets")
            guard evictedCount(layer: layer) > 0 else {
                // Safe: an object has at most 2^24 tokens.
                for token in target.indices { target[token] = UInt32(token) }
                continue
            }
            let isWhole = KeptMap.load(map, at: head * headBytes, tokens: header.tokenCount, into: &target)
            guard isWhole, KeptMap.keepsSink(target.span, sink: header.sink) else {
                throw corrupt(
                    block, "a map of \(target.count) of \(header.tokenCount) tokens, the sink of \(header.sink) among them")
            }
        }
    }

    /// The summaries of `layer`: `lo` [heads, keyDim], then `hi` [heads, keyDim]; empty for a window.
    /// - Parameter part: the bytes of `keptRange(layer:)`, of which this is a piece.
    @_lifetime(copy part)
    public func summaries(layer: Int, in part: RawSpan) throws(CacheError) -> RawSpan {
        try verified(Block.kept(layer: layer, .summaries), in: part, of: keptRange(layer: layer))
    }

    /// The token ids, u32 each, little-endian.
    /// - Parameter part: the bytes of `idsRange`.
    @_lifetime(copy part)
    public func ids(in part: RawSpan) throws(CacheError) -> RawSpan {
        try verified(Block.ids, in: part, of: idsRange)
    }

    /// The kept rows of every head of `layer`, each head's in temporal order and contiguous.
    /// - Parameters:
    ///   - part: the bytes of `keptRange(layer:)`.
    ///   - keys: begins with head 0's first key; the next head's are `keyStride` bytes on.
    ///   - values: likewise.
    public func decodeKept(
        layer: Int, from part: RawSpan, keys: consuming MutableRawSpan, keyStride: Int, values: consuming MutableRawSpan,
        valueStride: Int, scratch: CodecScratch
    ) throws(CacheError) {
        let (geometry, range) = (header.geometry, keptRange(layer: layer))
        let context = scratch.take()
        defer { scratch.giveBack(context) }
        // The rows as they lie in memory, where nothing is between them.
        let rows = LayerRuns(nil, layer: layer, heads: geometry.heads, tokens: keptCount(layer: layer)).kept
        let keyRows = rows.pieces(rowBytes: geometry.keyBytes, stride: keyStride)
        try decode(Block.kept(layer: layer, .keys), part, range, keyRows, &keys, context)
        let valueRows = rows.pieces(rowBytes: geometry.valueBytes, stride: valueStride)
        try decode(Block.kept(layer: layer, .values), part, range, valueRows, &values, context)
    }

    /// The evicted rows of one head, in temporal order and contiguous.
    /// - Parameter part: the bytes of `evictedRange(layer:head:)`.
    public func decodeEvicted(
        layer: Int, head: Int, from part: RawSpan, keys: consuming MutableRawSpan, values: consuming MutableRawSpan,
        scratch: CodecScratch
    ) throws(CacheError) {
        let geometry = header.geometry
        let range = evictedRange(layer: layer, head: head)
        let rows = 0..<evictedCount(layer: layer)
        let context = scratch.take()
        defer { scratch.giveBack(context) }
        let block = Block.evicted(layer: layer, head: head, .keys, geometry)
        try decode(block, part, range, [Piece(rows, of: geometry.keyBytes, from: 0)], &keys, context)
        try decode(block + 1, part, range, [Piece(rows, of: geometry.valueBytes, from: 0)], &values, context)
    }

    /// Every row of every head of `layer`, kept and evicted, in temporal order: token t of head h at h · stride + t · row.
    /// - Parameters:
    ///   - kept: the bytes of `keptRange(layer:)`.
    ///   - evicted: the bytes of `evictedRange(layer:)`.
    public func decodeRows(
        layer: Int, kept: RawSpan, evicted: RawSpan, keys: consuming MutableRawSpan, keyStride: Int,
        values: consuming MutableRawSpan, valueStride: Int, scratch: CodecScratch
    ) throws(CacheError) {
        let geometry = header.geometry
        let runs = try runs(layer: layer, kept: kept)
        let context = scratch.take()
        defer { scratch.giveBack(context) }
        let keptRange = keptRange(layer: layer)
        var pieces = runs.kept.pieces(rowBytes: geometry.keyBytes, stride: keyStride)
        try decode(Block.kept(layer: layer, .keys), kept, keptRange, pieces, &keys, context)
        pieces = runs.kept.pieces(rowBytes: geometry.valueBytes, stride: valueStride)
        try decode(Block.kept(layer: layer, .values), kept, keptRange, pieces, &values, context)
        guard evictedCount(layer: layer) > 0 else { return }
        let range = evictedRange(layer: layer)
        for head in 0..<geometry.heads {
            let block = Block.evicted(layer: layer, head: head, .keys, geometry)
            runs.evicted.list(head: head, rowBytes: geometry.keyBytes, from: head * keyStride, in: &pieces)
            try decode(block, evicted, range, pieces, &keys, context)
            runs.evicted.list(head: head, rowBytes: geometry.valueBytes, from: head * valueStride, in: &pieces)
            try decode(block + 1, evicted, range, pieces, &values, context)
        }
    }

    /// The whole object as the tokens it was made from.
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - buffer: at least `RawChunk.byteCount(geometry:tokenCount:)` bytes; nil takes a new one.
    public func decodeChunk(_ bytes: RawSpan, into buffer: AlignedBuffer? = nil, scratch: CodecScratch) throws(CacheError)
        -> RawChunk
    {
        precondition(bytes.byteCount == fileByteCount, "not the whole object")
        let count = RawChunk.byteCount(geometry: header.geometry, tokenCount: header.tokenCount)
        let buffer = buffer ?? AlignedBuffer(byteCount: max(1, count))
        let chunk = RawChunk(
            geometry: header.geometry, firstPosition: header.firstPosition, tokenCount: header.tokenCount, buffer: buffer)
        var target = buffer.mutableBytes(chunk.ids)
        target.copy(try ids(in: bytes.extracting(idsRange)), at: 0)
        for layer in 0..<header.geometry.layers {
            try decodeRows(
                layer: layer, kept: bytes.extracting(keptRange(layer: layer)),
                evicted: bytes.extracting(evictedRange(layer: layer)),
                keys: buffer.mutableBytes(chunk.keys(layer: layer)), keyStride: header.tokenCount * header.geometry.keyBytes,
                values: buffer.mutableBytes(chunk.values(layer: layer)),
                valueStride: header.tokenCount * header.geometry.valueBytes,
                scratch: scratch)
        }
        return chunk
    }
}

extension ObjectIndex {
    /// Decodes one block to `pieces` of `target`.
    private func decode(
        _ block: Int, _ part: RawSpan, _ range: Range<Int>, _ pieces: [Piece], _ target: inout MutableRawSpan, _ context: CodecContext
    ) throws(CacheError) {
        let stored = try verified(block, in: part, of: range)
        let ahead = range.upperBound - self.range(of: block).upperBound
        let element = header.geometry.element.byteCount
        guard context.decode(stored, entries[block].codec, ahead: ahead, element: element, to: pieces, of: &target) else {
            throw corrupt(block, "\(pieces.reduce(0) { $0 + $1.byteCount }) bytes of rows")
        }
    }

    /// The tokens of each head that are in the kept part, and those that are not.
    private func runs(layer: Int, kept part: RawSpan) throws(CacheError) -> LayerRuns {
        var offsets: KeptOffsets?
        if evictedCount(layer: layer) > 0 {
            var counts = [Int](repeating: 0, count: header.geometry.layers)
            counts[layer] = keptCount(layer: layer)
            var found = KeptOffsets(heads: header.geometry.heads, counts: counts)
            try decodeOffsets(layer: layer, from: part, into: &found)
            offsets = found
        }
        return LayerRuns(offsets, layer: layer, heads: header.geometry.heads, tokens: header.tokenCount)
    }

    /// The stored bytes of `block`, whose sum is right, out of the bytes of `range`.
    @_lifetime(copy part)
    private func verified(_ block: Int, in part: RawSpan, of range: Range<Int>) throws(CacheError) -> RawSpan {
        precondition(part.byteCount == range.count, "\(part.byteCount) bytes are not those of \(range)")
        let place = self.range(of: block)
        let bytes = part.extracting(place.lowerBound - range.lowerBound..<place.upperBound - range.lowerBound)
        let sum = crc32c(bytes)
        guard sum == entries[block].checksum else {
            throw corrupt(block, "checksum \(String(entries[block].checksum, radix: 16))", seen: "\(String(sum, radix: 16))")
        }
        return bytes
    }

    private func corrupt(_ block: Int, _ expected: String, seen: String = "other bytes") -> CacheError {
        Fault(path: path).corrupt("block \(block) at \(range(of: block))", seen: seen, expected: expected)
    }
}
