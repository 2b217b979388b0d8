internal import CacheModel

/// What a check of a state directory found. The JSON's keys are a contract.
struct Verification: Encodable {
    var path: String
    var sessions = 0
    /// Files that were read whole; one that several sessions share is read once.
    var objects = 0
    var bytes = 0
    /// Tokens that can be read back, over all sessions.
    var tokens = 0
    var seconds = 0.0
    /// What is wrong.
    var problems: [Problem] = []
    /// What is left over from a crash and does no harm: the daemon's next start removes it.
    var leftovers: [String] = []

    struct Problem: Encodable {
        var code: String
        var path: String
        var message: String
        var seen: String
        var expected: String

        init(_ error: CacheError, path: String) {
            code = error.code.name
            self.path = path
            message = error.message
            seen = error.seen
            expected = error.expected
        }
    }

    /// Lines for people.
    var text: String {
        var text = ""
        for problem in problems {
            text += "BAD  \(problem.path): \(problem.message)"
            if !problem.seen.isEmpty { text += "; seen: \(problem.seen)" }
            if !problem.expected.isEmpty { text += "; expected: \(problem.expected)" }
            text += "\n"
        }
        for leftover in leftovers { text += "left \(leftover)\n" }
        let rate = Units.rate(bytes: bytes, seconds: seconds)
        text += "\(path): \(sessions) sessions, \(Units.grouped(tokens)) tokens; \(Units.grouped(objects)) files, "
        text += "\(Units.bytes(bytes)) read in \(Units.seconds(seconds)) (\(rate))\n"
        text += problems.isEmpty ? "every checksum is right\n" : "\(problems.count) problem\(problems.count == 1 ? "" : "s")\n"
        return text
    }
}
