public import CacheModel

/// An error as a frame: `u16 code, string message, string seen, string expected`.
extension CacheError {
    /// Bytes of UTF-8 of each of an error's texts; what is longer is cut. They quote foreign values, which may be long.
    public static let textBytes = 1_024

    /// - Throws: `badFrame` if the payload is not exactly an error's fields.
    public init(payload: RawSpan) throws(CacheError) {
        var reader = ByteReader(payload)
        let number = try reader.u16()
        guard let code = ErrorCode(rawValue: number) else {
            throw CacheError(.badFrame, "an error code", seen: "\(number)", expected: "1 to \(ErrorCode.allCases.count)")
        }
        self.init(
            code, try reader.string(atMost: Self.textBytes), seen: try reader.string(atMost: Self.textBytes),
            expected: try reader.string(atMost: Self.textBytes))
        try reader.finish()
    }

    /// The whole frame, header included.
    /// - Parameter verb: a number, for the error may be about an unknown verb.
    public func frame(verb: UInt16, request: UInt64) -> [UInt8] {
        FrameHeader.frame(verb: verb, flags: [.reply, .error], request: request) { write(to: &$0) }
    }

    /// The payload alone.
    public func encode() -> [UInt8] {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.bytes
    }

    private func write(to writer: inout ByteWriter) {
        writer.u16(code.rawValue)
        writer.string(message, atMost: Self.textBytes)
        writer.string(seen, atMost: Self.textBytes)
        writer.string(expected, atMost: Self.textBytes)
    }
}
