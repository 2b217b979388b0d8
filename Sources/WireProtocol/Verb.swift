public import CacheModel

/// What a frame asks for. The numbers are the protocol's; none is reused.
public enum Verb: UInt16, CaseIterable, Sendable {
    case hello = 1
    case create = 2
    case open = 3
    case close = 4
    case commit = 5
    case sync = 6
    case full = 7
    case recall = 8
    case release = 9
    case truncate = 10
    case fork = 11
    case rename = 12
    case delete = 13
    case suspend = 14
    case resume = 15
    case show = 16
    case list = 17
    case status = 18
    case metrics = 19
    case inlet = 20
    case deliver = 21

    /// - Throws: `unknownVerb`.
    public init(wire number: UInt16) throws(CacheError) {
        guard let verb = Self(rawValue: number) else {
            throw CacheError(.unknownVerb, "a verb", seen: "\(number)", expected: "1 to \(Self.allCases.count)")
        }
        self = verb
    }

    /// The name in logs and metrics.
    public var name: String { String(describing: self) }

    /// File descriptors that come with a reply which is not an error.
    public var replyDescriptors: Int {
        switch self {
        case .create, .open: 2
        case .full, .inlet: 1
        default: 0
        }
    }
}
