public import CacheModel

/// Takes little-endian fields off the front of foreign bytes.
///
/// Nothing here traps and nothing allocates before the bytes for it are known to be there: every shortage, bad bool, bad
/// UTF-8 and absurd count is a typed error. `finish` refuses what is left over, so a value is valid only if its bytes are
/// exactly its fields.
public struct ByteReader: ~Escapable {
    private let bytes: RawSpan
    private var offset = 0

    @_lifetime(copy bytes)
    public init(_ bytes: RawSpan) { self.bytes = bytes }

    /// Bytes not yet taken.
    public var remaining: Int { bytes.byteCount - offset }

    private mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type) throws(CacheError) -> Value {
        let size = MemoryLayout<Value>.size
        try need(size, for: "\(Value.bitWidth / 8)-byte integer")
        // Safe: any bit pattern is an integer, and `need` has shown that the bytes are there.
        let value = bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Value.self)
        offset += size
        return Value(littleEndian: value)
    }

    public mutating func u8() throws(CacheError) -> UInt8 { try integer(UInt8.self) }
    public mutating func u16() throws(CacheError) -> UInt16 { try integer(UInt16.self) }
    public mutating func u32() throws(CacheError) -> UInt32 { try integer(UInt32.self) }
    public mutating func u64() throws(CacheError) -> UInt64 { try integer(UInt64.self) }
    public mutating func f64() throws(CacheError) -> Double { Double(bitPattern: try u64()) }

    /// A u32 as an `Int`, where it counts or numbers something.
    public mutating func int32() throws(CacheError) -> Int { Int(try u32()) }

    /// A u64 as an `Int`, where it counts something.
    /// - Throws: `limitExceeded` above 2^63 − 1.
    public mutating func int64() throws(CacheError) -> Int {
        let value = try u64()
        guard let count = Int(exactly: value) else {
            throw CacheError(.limitExceeded, "a count", seen: "\(value)", expected: "at most \(Int.max)")
        }
        return count
    }

    public mutating func bool() throws(CacheError) -> Bool {
        switch try u8() {
        case 0: return false
        case 1: return true
        case let other: throw CacheError(.badFrame, "a bool", seen: "\(other)", expected: "0 or 1")
        }
    }

    /// A u16 count and that many bytes of UTF-8.
    public mutating func string(atMost limit: Int = Int(UInt16.max)) throws(CacheError) -> String {
        try text(count: Int(try u16()), atMost: limit)
    }

    /// A u32 count and that many bytes of UTF-8.
    public mutating func longString() throws(CacheError) -> String {
        try text(count: try int32(), atMost: Limits.frameBytes)
    }

    private mutating func text(count: Int, atMost limit: Int) throws(CacheError) -> String {
        guard count <= limit else {
            throw CacheError(.limitExceeded, "the length of a text", seen: "\(count) bytes", expected: "at most \(limit)")
        }
        try need(count, for: "a text of \(count) bytes")
        let slice = bytes.extracting(offset..<offset + count)
        let text = slice.withUnsafeBytes { String(validating: $0, as: UTF8.self) }
        guard let text else { throw CacheError(.badFrame, "a text", seen: "bytes that are not UTF-8", expected: "UTF-8") }
        offset += count
        return text
    }

    /// A u32 count and that many values.
    /// - Parameter limit: refused above it (`limitExceeded`), before a value is read.
    public mutating func list<Value: WireValue>(of _: Value.Type, atMost limit: Int = .max) throws(CacheError) -> [Value] {
        let count = try int32()
        guard count <= limit else {
            throw CacheError(.limitExceeded, "entries of a list", seen: "\(count)", expected: "at most \(limit)")
        }
        // Divided, not multiplied: a count is never large enough to overflow here, but nobody should have to check.
        guard count <= remaining / Value.fewestBytes else { throw shortage("a list of \(count) entries") }
        var values: [Value] = []
        values.reserveCapacity(count)
        for _ in 0..<count { values.append(try Value(from: &self)) }
        return values
    }

    /// `count` u32 in a row, without a count before them.
    public mutating func words(_ count: Int) throws(CacheError) -> [UInt32] {
        guard count >= 0, count <= remaining / 4 else { throw shortage("\(count) 4-byte integers") }
        var values: [UInt32] = []
        values.reserveCapacity(count)
        for _ in 0..<count { values.append(try u32()) }
        return values
    }

    /// - Throws: `badFrame` if bytes are left.
    public func finish() throws(CacheError) {
        guard remaining == 0 else {
            throw CacheError(.badFrame, "the length of a payload", seen: "\(bytes.byteCount) bytes", expected: "\(offset)")
        }
    }

    private func need(_ count: Int, for what: @autoclosure () -> String) throws(CacheError) {
        guard count <= remaining else { throw shortage(what()) }
    }

    private func shortage(_ what: String) -> CacheError {
        CacheError(.badFrame, "the length of a payload", seen: "\(remaining) bytes at offset \(offset)", expected: what)
    }
}
