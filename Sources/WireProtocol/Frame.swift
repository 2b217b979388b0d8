public import CacheModel

/// The 16 bytes before every payload.
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | u32 | length: bytes of the payload |
/// | 4 | u16 | verb |
/// | 6 | u16 | flags |
/// | 8 | u64 | request: chosen by the client, repeated in the reply |
public struct FrameHeader: Sendable, Hashable {
    /// Bytes of the header itself.
    public static let byteCount = 16

    /// Bytes of the payload that follows, 0 to `Limits.frameBytes`.
    public let length: Int
    /// A number and not a `Verb`: a frame with an unknown verb is well formed, and the connection goes on after it.
    public let verb: UInt16
    public let flags: FrameFlags
    public let request: UInt64

    /// - Precondition: `length` is within `Limits.frameBytes`. What we send is ours to keep within the limit.
    public init(length: Int, verb: UInt16, flags: FrameFlags = [], request: UInt64) {
        precondition((0...Limits.frameBytes).contains(length), "a payload of \(length) bytes")
        self.length = length
        self.verb = verb
        self.flags = flags
        self.request = request
    }

    /// - Parameter bytes: exactly 16 bytes.
    /// - Throws: `badFrame`, after which nobody knows where the next frame begins: close the connection.
    public init(parsing bytes: RawSpan) throws(CacheError) {
        var reader = ByteReader(bytes)
        let length = Int(try reader.u32())
        let verb = try reader.u16()
        let flags = FrameFlags(rawValue: try reader.u16())
        let request = try reader.u64()
        try reader.finish()
        guard length <= Limits.frameBytes else {
            throw CacheError(
                .badFrame, "the length of a frame", seen: "\(length) bytes", expected: "at most \(Limits.frameBytes)")
        }
        guard flags.isSubset(of: .known) else {
            throw CacheError(.badFrame, "reserved flags of a frame", seen: "\(flags.rawValue)", expected: "0")
        }
        guard !flags.contains(.error) || flags.contains(.reply) else {
            throw CacheError(.badFrame, "flags of a frame", seen: "an error that is not a reply", expected: "both or neither")
        }
        self.length = length
        self.verb = verb
        self.flags = flags
        self.request = request
    }

    /// A whole frame: the header and what `payload` writes.
    /// - Precondition: the payload is within `Limits.frameBytes`.
    static func frame(
        verb: UInt16, flags: FrameFlags, request: UInt64, payload: (inout ByteWriter) -> Void
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.u32(0)
        writer.u16(verb)
        writer.u16(flags.rawValue)
        writer.u64(request)
        payload(&writer)
        let length = writer.bytes.count - byteCount
        precondition(length <= Limits.frameBytes, "a payload of \(length) bytes for verb \(verb)")
        writer.patch(u32: UInt32(length), at: 0)
        return writer.bytes
    }
}

/// The flags of a frame's header. The bits not named here are reserved: a frame that sets one is refused.
public struct FrameFlags: OptionSet, Sendable, Hashable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let reply = FrameFlags(rawValue: 1 << 0)
    /// Set together with `reply` only.
    public static let error = FrameFlags(rawValue: 1 << 1)
    static let known: FrameFlags = [.reply, .error]
}
