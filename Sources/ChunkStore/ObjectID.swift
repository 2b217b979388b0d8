public import CacheLoop

/// Which object or session it is: 16 random bytes. An object names its predecessor by this, so that one that was swapped
/// for another, or left over from before a truncation, does not fit its neighbours.
public struct ObjectID: Sendable, Hashable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Where there is no predecessor. Never the id of an object.
    public static let none = ObjectID(high: 0, low: 0)

    @CacheLoop
    public static func random(from entropy: Entropy) -> ObjectID {
        while true {
            let id = ObjectID(high: entropy.next(), low: entropy.next())
            if id != none { return id }
        }
    }

    /// - Parameter text: as `description` writes it.
    public init?(_ text: some StringProtocol) {
        guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16) else {
            return nil
        }
        self.init(high: high, low: low)
    }

    /// 32 hexadecimal digits.
    public var description: String { [high, low].map(Self.hexadecimal).joined() }

    private static func hexadecimal(_ word: UInt64) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
