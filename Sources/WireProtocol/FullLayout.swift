public import CacheModel

/// Where the full view of one layer lies in the file that comes with it: keys [heads, tokens, keyDim], values
/// [heads, tokens, valueDim] and the token ids u32[tokens]. Offsets and strides in bytes.
public struct FullLayout: Sendable, Hashable {
    public var tokens: Int
    public var keysOffset: Int
    public var keyHeadStride: Int
    public var valuesOffset: Int
    public var valueHeadStride: Int
    public var idsOffset: Int
    /// Size of the file.
    public var bytes: Int

    public init(
        tokens: Int, keysOffset: Int, keyHeadStride: Int, valuesOffset: Int, valueHeadStride: Int, idsOffset: Int, bytes: Int
    ) {
        self.tokens = tokens
        self.keysOffset = keysOffset
        self.keyHeadStride = keyHeadStride
        self.valuesOffset = valuesOffset
        self.valueHeadStride = valueHeadStride
        self.idsOffset = idsOffset
        self.bytes = bytes
    }
}

extension FullLayout: WireValue {
    public static var fewestBytes: Int { 7 * 8 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        tokens = try reader.int64()
        keysOffset = try reader.int64()
        keyHeadStride = try reader.int64()
        valuesOffset = try reader.int64()
        valueHeadStride = try reader.int64()
        idsOffset = try reader.int64()
        bytes = try reader.int64()
    }

    public func write(to writer: inout ByteWriter) {
        writer.int64(tokens)
        writer.int64(keysOffset)
        writer.int64(keyHeadStride)
        writer.int64(valuesOffset)
        writer.int64(valueHeadStride)
        writer.int64(idsOffset)
        writer.int64(bytes)
    }
}
