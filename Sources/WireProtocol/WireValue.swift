public import CacheModel

/// A value with one encoding in frames: PROTOCOL.md gives the table of each.
public protocol WireValue {
    /// The fewest bytes that one such value takes: what bounds a list's count before anything is allocated.
    static var fewestBytes: Int { get }
    init(from reader: inout ByteReader) throws(CacheError)
    func write(to writer: inout ByteWriter)
}

extension UInt32: WireValue {
    public static var fewestBytes: Int { 4 }
    public init(from reader: inout ByteReader) throws(CacheError) { self = try reader.u32() }
    public func write(to writer: inout ByteWriter) { writer.u32(self) }
}

extension SessionName: WireValue {
    public static var fewestBytes: Int { 2 }
    /// - Throws: `badName`.
    public init(from reader: inout ByteReader) throws(CacheError) { try self.init(try reader.string()) }
    public func write(to writer: inout ByteWriter) { writer.string(text) }
}

extension SessionDescription: WireValue {
    public static var fewestBytes: Int { 16 + 1 + 8 + 8 + 8 + 4 + 8 + 2 + 4 }

    /// - Throws: `limitExceeded` or `badRequest` that names the field.
    public init(from reader: inout ByteReader) throws(CacheError) {
        let layers = try reader.int32()
        let heads = try reader.int32()
        let keyDim = try reader.int32()
        let valueDim = try reader.int32()
        let elementNumber = try reader.u8()
        guard let element = ElementType(rawValue: elementNumber) else {
            throw CacheError(
                .badRequest, "an element type", seen: "\(elementNumber)", expected: "1 to \(ElementType.allCases.count)")
        }
        let sink = try reader.int32()
        let lag = try reader.int32()
        let keepRatio = try reader.f64()
        let valueWeight = try reader.f64()
        let uncompressed = try reader.list(of: UInt32.self, atMost: Limits.layers)
        let capacity = try reader.int64()
        let fingerprint = try reader.string()
        let flags = try Flags(checking: try reader.u32())
        try self.init(
            geometry: Geometry(layers: layers, heads: heads, keyDim: keyDim, valueDim: valueDim, element: element),
            policy: Policy(
                sink: sink, lag: lag, keepRatio: keepRatio, valueWeight: valueWeight,
                uncompressedLayers: uncompressed.map { Int($0) }),
            capacity: capacity, fingerprint: fingerprint,
            isShared: flags.contains(.shared), isDisposable: flags.contains(.disposable))
    }

    public func write(to writer: inout ByteWriter) {
        writer.int32(geometry.layers)
        writer.int32(geometry.heads)
        writer.int32(geometry.keyDim)
        writer.int32(geometry.valueDim)
        writer.u8(geometry.element.rawValue)
        writer.int32(policy.sink)
        writer.int32(policy.lag)
        writer.f64(policy.keepRatio)
        writer.f64(policy.valueWeight)
        writer.list(policy.uncompressedLayers.map { UInt32($0) })
        writer.int64(capacity)
        writer.string(fingerprint)
        var flags: Flags = []
        if isShared { flags.insert(.shared) }
        if isDisposable { flags.insert(.disposable) }
        writer.u32(flags.rawValue)
    }

    private struct Flags: OptionSet {
        let rawValue: UInt32
        static let shared = Flags(rawValue: 1 << 0)
        static let disposable = Flags(rawValue: 1 << 1)

        init(rawValue: UInt32) { self.rawValue = rawValue }
        init(checking rawValue: UInt32) throws(CacheError) {
            guard rawValue & ~3 == 0 else {
                throw CacheError(.badRequest, "reserved flags of a description", seen: "\(rawValue)", expected: "0 to 3")
            }
            self.init(rawValue: rawValue)
        }
    }
}
