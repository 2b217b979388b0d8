/// What went wrong, as a number that programs can act on. The numbers are part of the wire protocol; none is reused.
public enum ErrorCode: UInt16, CaseIterable, Sendable {
    // The frame itself.
    case badFrame = 1
    case badVersion = 2
    case unknownVerb = 3
    case badRequest = 4
    // The request's values.
    case limitExceeded = 5
    case badName = 6
    case notFound = 7
    case alreadyExists = 8
    case mismatch = 9
    case notPermitted = 10
    // The session's state.
    case writerBusy = 11
    case notWriter = 12
    case badHandle = 13
    case badTokenCount = 14
    case beyondCapacity = 15
    case beyondGrant = 16
    case notSealed = 17
    case alreadyRecalled = 18
    case nothingEvicted = 19
    case sessionBusy = 20
    // The machine.
    case memoryBudget = 21
    case diskBudget = 22
    case diskFailed = 23
    case corrupt = 24
    case shuttingDown = 25
    case outOfResources = 26
    case interrupted = 27
    case noInlet = 28

    /// The name in listings, metrics and Python's exceptions.
    public var name: String { String(describing: self) }
}

/// The one error of everything above the kernel: a code for programs, and for people what was tried, what was seen and
/// what was expected.
public struct CacheError: Error, Sendable, Hashable, CustomStringConvertible {
    public var code: ErrorCode
    /// What was refused, as a clause: "a session name".
    public var message: String
    /// The offending value, as it was seen.
    public var seen: String
    /// What would have been accepted, or what to do.
    public var expected: String

    public init(_ code: ErrorCode, _ message: String, seen: String = "", expected: String = "") {
        self.code = code
        self.message = message
        self.seen = seen
        self.expected = expected
    }

    public var description: String {
        var text = "\(code.name): \(message)"
        if !seen.isEmpty { text += "; seen: \(seen)" }
        if !expected.isEmpty { text += "; expected: \(expected)" }
        return text
    }

    /// Throws `limitExceeded` unless `value` lies in `range`.
    public static func check(_ what: String, _ value: Int, in range: ClosedRange<Int>) throws(CacheError) {
        guard range.contains(value) else {
            throw CacheError(.limitExceeded, what, seen: "\(value)", expected: "\(range.lowerBound) to \(range.upperBound)")
        }
    }
}
