/// The name of an object inside its session's directory. **The names are the index**: listing the directory is all it takes
/// to know what a session holds.
///
///     chunk-000012-34          chunk 12, object number 34 of its session
///     window-000013-1740-35    the tokens from chunk 13 on, up to token 1,740; object number 35
///
/// Numbers only grow, so a name is never used twice and an object never replaces another: a newer one outranks it.
public enum ObjectName: Hashable, Sendable {
    case chunk(Int, sequence: UInt64)
    /// `sealedChunks` chunks lie below it; it reaches up to `tokens`.
    case window(sealedChunks: Int, tokens: Int, sequence: UInt64)

    public var sequence: UInt64 {
        switch self {
        case .chunk(_, let sequence), .window(_, _, let sequence): sequence
        }
    }

    public var text: String {
        switch self {
        case .chunk(let chunk, let sequence): "chunk-\(Self.padded(chunk))-\(sequence)"
        case .window(let sealed, let tokens, let sequence): "window-\(Self.padded(sealed))-\(tokens)-\(sequence)"
        }
    }

    /// Nil for a name that is not an object's.
    public init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        let numbers = parts.dropFirst().compactMap { UInt64($0) }
        guard numbers.count == parts.count - 1, numbers.allSatisfy({ $0 <= UInt64(Int.max) }) else { return nil }
        switch (parts.first, numbers.count) {
        case ("chunk", 2): self = .chunk(Int(numbers[0]), sequence: numbers[1])
        case ("window", 3): self = .window(sealedChunks: Int(numbers[0]), tokens: Int(numbers[1]), sequence: numbers[2])
        default: return nil
        }
        // "chunk-12-34" is not the file of "chunk-000012-34".
        guard self.text == text else { return nil }
    }

    private static func padded(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 6 - digits.count)) + digits
    }
}
