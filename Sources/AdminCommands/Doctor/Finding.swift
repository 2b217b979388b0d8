/// One thing that lagkvd needs, and how it is here. The JSON's keys are a contract.
struct Finding: Encodable {
    enum Verdict: String, Encodable {
        case good
        /// Works, with less speed or less safety.
        case weak
        /// lagkvd does not work like this.
        case bad
    }

    /// A stable name: "io_uring".
    var name: String
    var verdict: Verdict
    var seen: String
    /// What would be good.
    var threshold: String
    /// Why it usually is as it is; empty where all is good.
    var cause: String
    /// What to do; empty where all is good.
    var remedy: String

    static func good(_ name: String, seen: String, threshold: String) -> Finding {
        Finding(name: name, verdict: .good, seen: seen, threshold: threshold, cause: "", remedy: "")
    }

    /// Lines for people.
    static func text(_ findings: [Finding]) -> String {
        var table = Table([Table.Column(""), Table.Column(""), Table.Column("")])
        for finding in findings {
            let mark = finding.verdict == .good ? "ok" : finding.verdict == .weak ? "weak" : "BAD"
            table.add([mark, finding.name, finding.seen])
            guard finding.verdict != .good else { continue }
            table.add(["", "", "needed: \(finding.threshold)"])
            if !finding.cause.isEmpty { table.add(["", "", "likely: \(finding.cause)"]) }
            if !finding.remedy.isEmpty { table.add(["", "", "to do:  \(finding.remedy)"]) }
        }
        let bad = findings.filter { $0.verdict == .bad }.count
        let weak = findings.filter { $0.verdict == .weak }.count
        let summary =
            bad > 0
            ? "lagkvd does not work here: \(bad) bad, \(weak) weak\n"
            : weak > 0 ? "lagkvd works here, \(weak) weak point\(weak == 1 ? "" : "s")\n" : "all good\n"
        return table.render() + summary
    }
}
