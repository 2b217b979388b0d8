/// The text of a configuration file: one `key = value` a line. A `#` at the beginning of a line or after a space begins a
/// comment. There are no sections, quotes or continued lines.
struct ConfigurationFile {
    struct Line {
        let number: Int
        let value: String
    }

    let path: String
    /// By key. Every key is known and occurs once.
    private(set) var lines: [String: Line] = [:]
    private(set) var problems: [ConfigurationProblem] = []

    /// Bytes of a file; more is not a configuration but a mistake in a path.
    static let largestSize = 1 << 20

    /// Reads what can be read, and notes every line that cannot.
    init(_ text: String, path: String) {
        self.path = path
        // CRLF is one Character in Swift, so a split at "\n" would miss it.
        for (index, content) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let number = index + 1
            do throws(Refused) {
                try read(Self.withoutComment(content), number)
            } catch {
                problems.append(
                    ConfigurationProblem(
                        origin: .file(path, line: number), message: error.message, seen: error.seen, expected: error.expected))
            }
        }
    }

    private struct Refused: Error {
        let message, seen, expected: String
    }

    private mutating func read(_ content: Substring, _ number: Int) throws(Refused) {
        guard !content.isEmpty else { return }
        guard let equals = content.firstIndex(of: "=") else {
            throw Refused(message: "not a setting", seen: "“\(content)”", expected: "key = value")
        }
        let key = String(Self.trimmed(content[..<equals]))
        guard ConfigurationKey.named(key) != nil else {
            throw Refused(
                message: "unknown key", seen: "“\(key)”", expected: "perhaps “\(ConfigurationKey.nearest(to: key).key.name)”")
        }
        if let first = lines[key] {
            throw Refused(
                message: "\(key) is set twice", seen: "line \(first.number) and line \(number)", expected: "one of them")
        }
        lines[key] = Line(number: number, value: String(Self.trimmed(content[content.index(after: equals)...])))
    }

    private static func withoutComment(_ line: Substring) -> Substring {
        var previous: Character = " "
        for index in line.indices {
            if line[index] == "#", previous.isWhitespace { return trimmed(line[..<index]) }
            previous = line[index]
        }
        return trimmed(line)
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let tail = text.drop(while: \.isWhitespace)
        return tail.prefix(upTo: tail.lastIndex { !$0.isWhitespace }.map(tail.index(after:)) ?? tail.startIndex)
    }
}
