/// Where a value came from. Later cases win over earlier ones.
public enum ConfigurationOrigin: Sendable, Hashable, CustomStringConvertible {
    case builtIn
    case file(String, line: Int?)
    case environment(String)
    case flag(String)

    /// The line of a file; what is no line comes after all lines.
    fileprivate var line: Int {
        if case .file(_, let line?) = self { line } else { .max }
    }

    public var description: String {
        switch self {
        case .builtIn: "default"
        case .file(let path, let line): path + (line.map { ":\($0)" } ?? "")
        case .environment(let variable): "$" + variable
        case .flag(let key): "--" + key
        }
    }
}

/// One thing that is wrong with a configuration: where, what was seen, what would have been accepted.
public struct ConfigurationProblem: Sendable, Hashable, CustomStringConvertible {
    public var origin: ConfigurationOrigin
    public var message: String
    public var seen: String
    public var expected: String

    public var description: String { "\(origin): \(message); seen: \(seen); expected: \(expected)" }
}

/// Everything that is wrong with a configuration, so that one run of `--check-config` finds it all.
public struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    public let problems: [ConfigurationProblem]

    /// - Parameter problems: in any order; lines of a file are sorted.
    init(_ problems: [ConfigurationProblem]) {
        self.problems = problems.sorted { $0.origin.line < $1.origin.line }
    }

    public var description: String { problems.map(\.description).joined(separator: "\n") }
}
