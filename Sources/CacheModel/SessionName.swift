/// The name of a session: one path component that needs no quoting in a shell.
public struct SessionName: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let text: String

    /// - Throws: `badName`. Allowed: 1 to 128 of `A–Z a–z 0–9 . _ : @ + = -`, not beginning with a dot or a hyphen.
    public init(_ text: String) throws(CacheError) {
        guard (1...Limits.nameBytes).contains(text.utf8.count) else {
            throw CacheError(.badName, "the length of a session name", seen: "\(text.utf8.count) bytes", expected: "1 to \(Limits.nameBytes)")
        }
        guard text.utf8.allSatisfy(Self.isAllowed), text.utf8.first != UInt8(ascii: "."), text.utf8.first != UInt8(ascii: "-") else {
            throw CacheError(
                .badName, "a session name", seen: "“\(text)”",
                expected: "letters, digits and . _ : @ + = - only, not beginning with a dot or a hyphen")
        }
        self.text = text
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "._:@+=-".utf8.contains(byte)
        }
    }

    public static func < (left: Self, right: Self) -> Bool { left.text < right.text }
    public var description: String { text }
}
