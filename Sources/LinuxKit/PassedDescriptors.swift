/// The descriptors that travel with one message: on their way out until they are sent, on their way in until they are taken.
/// Those that are left are closed.
public struct PassedDescriptors: ~Copyable, Sendable {
    public private(set) var count = 0
    private var first: Descriptor?
    private var second: Descriptor?

    /// The most that one message carries.
    public static let limit = 2

    public init() {}

    /// The one that came first of those that are left.
    public mutating func takeFirst() -> Descriptor? {
        guard let taken = first.take() else { return nil }
        first = second.take()
        count -= 1
        return taken
    }

    /// - Returns: false, and the descriptor is closed, when there is no room.
    @discardableResult
    public mutating func append(_ descriptor: consuming Descriptor) -> Bool {
        switch count {
        case 0: first = consume descriptor
        case 1: second = consume descriptor
        default: return false
        }
        count += 1
        return true
    }

    /// Their numbers, in order; valid as long as this owns them.
    package var numbers: [Int32] {
        var numbers: [Int32] = []
        switch first {
        case .some(let descriptor): numbers.append(descriptor.rawValue)
        case .none: break
        }
        switch second {
        case .some(let descriptor): numbers.append(descriptor.rawValue)
        case .none: break
        }
        return numbers
    }
}
