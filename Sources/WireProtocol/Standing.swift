public import CacheModel

/// Where a session stands after a request that changed it.
public struct Standing: Sendable, Hashable {
    /// Logical length.
    public var tokens: Int
    public var sealedChunks: Int
    /// Tokens that survive a kill of the daemon now.
    public var durableTokens: Int
    /// The layout's generation, even.
    public var generation: UInt64

    public init(tokens: Int, sealedChunks: Int, durableTokens: Int, generation: UInt64) {
        self.tokens = tokens
        self.sealedChunks = sealedChunks
        self.durableTokens = durableTokens
        self.generation = generation
    }
}

extension Standing: WireValue {
    public static var fewestBytes: Int { 32 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        tokens = try reader.int64()
        sealedChunks = try reader.int64()
        durableTokens = try reader.int64()
        generation = try reader.u64()
    }

    public func write(to writer: inout ByteWriter) {
        writer.int64(tokens)
        writer.int64(sealedChunks)
        writer.int64(durableTokens)
        writer.u64(generation)
    }
}
