internal import Foundation

/// One thing that was measured.
struct Figure: Encodable {
    var name: String
    var value: Double
    var unit: String
    /// What the machine could do, in the same unit, and what that is.
    var limit: Double?
    var limitName: String?
    /// What must hold of `ratio`, and what is worked for.
    var floor: Bound?
    var aim: Bound?

    /// The figure as a share of its limit; nil where the figure itself is the share or has no limit.
    var ratio: Double? { limit.map { value / $0 } }

    struct Bound: Encodable {
        enum Sense: String, Encodable { case atLeast = "≥", atMost = "≤" }
        var sense: Sense
        var value: Double

        func holds(_ measured: Double) -> Bool { sense == .atLeast ? measured >= value : measured <= value }
    }

    /// What the bounds speak of: the ratio where there is a limit, else the value.
    var judged: Double { ratio ?? value }

    static func atLeast(_ value: Double) -> Bound { Bound(sense: .atLeast, value: value) }
    static func atMost(_ value: Double) -> Bound { Bound(sense: .atMost, value: value) }
}

/// All figures of one run, for people and for programs.
struct Report: Encodable {
    private var notes: [String: String] = [:]
    private var figures: [Figure] = []

    mutating func note(_ key: String, _ value: String) { notes[key] = value }
    mutating func add(_ figure: Figure) { figures.append(figure) }

    /// The limits as they are at the beginning, for the reader: the figures are held against those of their own moment.
    mutating func add(_ limits: MachineLimits) throws {
        func add(_ name: String, _ pass: () throws -> Double) throws {
            let seconds = try (0..<5).map { _ in try pass() }.min()!
            figures.append(Figure(name: "limit: \(name)", value: MachineLimits.gbs(seconds), unit: "GB/s"))
        }
        try add("plain read, one thread") { limits.read() }
        try add("memcpy, one thread") { limits.copy() }
        try add("disk write, O_DIRECT") { try limits.write() }
        try add("disk write, O_DIRECT, new and synced") { try limits.writeNewAndSync() }
        try add("disk read, O_DIRECT") { try limits.readDisk() }
        figures.append(Figure(name: "limit: Unix-socket ping-pong, p50", value: try limits.pingPong() * 1e6, unit: "µs"))
    }

    var json: Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        // Safe: nothing in a report is a number that JSON lacks.
        return try! encoder.encode(self)
    }

    var table: String {
        var rows = [["figure", "measured", "limit", "ratio", "floor", "aim", ""]]
        for figure in figures {
            let verdict = figure.floor.map { $0.holds(figure.judged) ? "" : "below the floor" } ?? ""
            rows.append([
                figure.name, "\(Self.text(figure.value)) \(figure.unit)",
                figure.limit.map { "\(Self.text($0)) \(figure.limitName ?? "")" } ?? "", figure.ratio.map(Self.text) ?? "",
                Self.text(figure.floor), Self.text(figure.aim), verdict,
            ])
        }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        let lines = rows.map { row in
            zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
        }
        let header = notes.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        return (header + [""] + lines).joined(separator: "\n")
    }

    private static func text(_ bound: Figure.Bound?) -> String { bound.map { "\($0.sense.rawValue) \(text($0.value))" } ?? "" }

    /// Three significant digits.
    static func text(_ value: Double) -> String {
        let digits = value == 0 ? 2 : max(0, 2 - Int(value.magnitude.logarithm10.rounded(.down)))
        return String(format: "%.\(min(digits, 6))f", value)
    }
}
