public import CacheModel

/// The answer to `create` and `open`. Two descriptors come with it: the slab file, then the control file.
public struct Attachment: Sendable, Hashable {
    /// Names the session in this connection's requests.
    public var handle: UInt32
    /// Whether the connection holds the writer's lease.
    public var isWriter: Bool
    public var row: SessionRow
    public var layout: SharedLayout
    public var generation: UInt64

    public init(handle: UInt32, isWriter: Bool, row: SessionRow, layout: SharedLayout, generation: UInt64) {
        self.handle = handle
        self.isWriter = isWriter
        self.row = row
        self.layout = layout
        self.generation = generation
    }
}

extension Attachment: WireValue {
    public static var fewestBytes: Int { 4 + 1 + SessionRow.fewestBytes + SharedLayout.fewestBytes + 8 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        handle = try reader.u32()
        isWriter = try reader.bool()
        row = try SessionRow(from: &reader)
        layout = try SharedLayout(from: &reader)
        generation = try reader.u64()
    }

    public func write(to writer: inout ByteWriter) {
        writer.u32(handle)
        writer.bool(isWriter)
        row.write(to: &writer)
        layout.write(to: &writer)
        writer.u64(generation)
    }
}
