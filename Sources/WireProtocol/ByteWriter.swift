/// Appends little-endian fields. What it writes, `ByteReader` reads.
public struct ByteWriter {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    private mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    public mutating func u8(_ value: UInt8) { bytes.append(value) }
    public mutating func u16(_ value: UInt16) { integer(value) }
    public mutating func u32(_ value: UInt32) { integer(value) }
    public mutating func u64(_ value: UInt64) { integer(value) }
    public mutating func f64(_ value: Double) { integer(value.bitPattern) }
    public mutating func bool(_ value: Bool) { bytes.append(value ? 1 : 0) }

    /// A count or a number as a u32.
    /// - Precondition: it is not negative and fits.
    public mutating func int32(_ value: Int) { integer(UInt32(value)) }

    /// A count as a u64.
    /// - Precondition: it is not negative.
    public mutating func int64(_ value: Int) { integer(UInt64(value)) }

    /// A u16 count and the text's UTF-8, cut after the last whole character that fits `limit` bytes. Names and
    /// fingerprints are short by construction; what can be long is a message that quotes foreign text.
    public mutating func string(_ text: String, atMost limit: Int = Int(UInt16.max)) {
        let clipped = Self.clip(text, to: limit)
        u16(UInt16(clipped.utf8.count))
        bytes.append(contentsOf: clipped.utf8)
    }

    /// A u32 count and the text's UTF-8.
    public mutating func longString(_ text: String) {
        int32(text.utf8.count)
        bytes.append(contentsOf: text.utf8)
    }

    /// A u32 count and the values.
    public mutating func list<Value: WireValue>(_ values: [Value]) {
        int32(values.count)
        for value in values { value.write(to: &self) }
    }

    mutating func patch(u32 value: UInt32, at offset: Int) {
        withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
    }

    private static func clip(_ text: String, to limit: Int) -> Substring {
        guard text.utf8.count > limit else { return text[...] }
        var end = text.startIndex
        var count = 0
        for index in text.unicodeScalars.indices {
            count += UTF8.width(text.unicodeScalars[index])
            guard count <= limit else { break }
            end = text.unicodeScalars.index(after: index)
        }
        return text[..<end]
    }
}
