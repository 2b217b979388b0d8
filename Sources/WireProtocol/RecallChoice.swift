public import CacheModel

/// The sealed chunks of one layer whose evicted tokens shall join the view: the same number for every head, so that the
/// view stays rectangular.
public struct RecallChoice: Sendable, Hashable {
    public var layer: Int
    /// For each head its chunk numbers, all rows of one length.
    public let chunks: [[Int]]

    /// Choices that one request may hold. A longer list goes in several requests: recalls add up.
    public static let perRequest = Limits.layers

    /// - Throws: `badRequest` if the heads do not all choose the same number or choose nothing, `limitExceeded` for 0 or more
    ///   than 256 heads.
    public init(layer: Int, chunks: [[Int]]) throws(CacheError) {
        try CacheError.check("KV heads of a recall", chunks.count, in: 1...Limits.heads)
        guard !chunks[0].isEmpty else {
            throw CacheError(.badRequest, "chunks to recall", seen: "none", expected: "at least one for every head")
        }
        for choice in chunks where choice.count != chunks[0].count {
            throw CacheError(
                .badRequest, "chunks to recall", seen: "\(choice.count) for one head, \(chunks[0].count) for another",
                expected: "as many for every head")
        }
        self.layer = layer
        self.chunks = chunks
    }

    /// m: chunks for each head.
    public var chunksPerHead: Int { chunks[0].count }

    /// Bytes of this choice in a frame.
    public var wireBytes: Int { 12 + 4 * chunks.count * chunksPerHead }
}

extension RecallChoice: WireValue {
    public static var fewestBytes: Int { 16 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        let layer = try reader.int32()
        let heads = try reader.int32()
        try CacheError.check("KV heads of a recall", heads, in: 1...Limits.heads)
        let chunksPerHead = try reader.int32()
        guard chunksPerHead > 0 else {
            throw CacheError(.badRequest, "chunks to recall", seen: "none", expected: "at least one for every head")
        }
        // Safe: at most 256 · (2^32 − 1), far below 2^63.
        let numbers = try reader.words(heads * chunksPerHead)
        self.layer = layer
        chunks = (0..<heads).map { head in
            numbers[head * chunksPerHead..<(head + 1) * chunksPerHead].map { Int($0) }
        }
    }

    public func write(to writer: inout ByteWriter) {
        writer.int32(layer)
        writer.int32(chunks.count)
        writer.int32(chunksPerHead)
        for choice in chunks {
            for chunk in choice { writer.int32(chunk) }
        }
    }
}
