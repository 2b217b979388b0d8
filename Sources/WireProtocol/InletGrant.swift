public import CacheModel

/// An inlet: shared memory in which the client puts the next tokens, chunk by chunk. PROTOCOL.md, `inlet`, says where in it.
public struct InletGrant: Sendable, Hashable {
    /// The number of its file on this connection: the same number is the same file.
    public var inlet: UInt32
    /// Size of the file.
    public var bytes: Int
    /// The first chunk that it holds; the others follow.
    public var chunk: Int
    /// How many chunks.
    public var chunks: Int
    /// The length that all the inlets since the last commit continue: what lies before it is not to be written.
    public var from: Int
    /// The end of its last chunk, or of the session's room.
    public var until: Int

    public init(inlet: UInt32, bytes: Int, chunk: Int, chunks: Int, from: Int, until: Int) {
        self.inlet = inlet
        self.bytes = bytes
        self.chunk = chunk
        self.chunks = chunks
        self.from = from
        self.until = until
    }
}

extension InletGrant: WireValue {
    public static var fewestBytes: Int { 4 + 8 + 8 + 4 + 8 + 8 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        inlet = try reader.u32()
        bytes = try reader.int64()
        chunk = try reader.int64()
        chunks = try reader.int32()
        from = try reader.int64()
        until = try reader.int64()
    }

    public func write(to writer: inout ByteWriter) {
        writer.u32(inlet)
        writer.int64(bytes)
        writer.int64(chunk)
        writer.int32(chunks)
        writer.int64(from)
        writer.int64(until)
    }
}
