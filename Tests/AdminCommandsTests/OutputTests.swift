import CacheModel
import Testing
import WireProtocol

@testable import AdminCommands

@Suite("what people and programs are shown")
struct OutputTests {
    @Test("columns are as wide as their widest cell, and lines end in no spaces")
    func table() {
        var table = Table([Table.Column("NAME"), Table.Column("TOKENS", .right), Table.Column("NOTE")])
        table.add(["chat-42", "1,300", ""])
        table.add(["b", "7", "×"])
        #expect(table.render() == "NAME     TOKENS  NOTE\nchat-42   1,300\nb             7  ×\n")
        #expect(Table.pairs([("a", "1"), ("long", "2")]).render() == "a     1\nlong  2\n")
    }

    @Test(
        "sizes have three digits and binary units",
        arguments: [
            (0, "0 B"), (1_023, "1023 B"), (1_024, "1.00 KiB"), (10_188, "9.95 KiB"), (10_234, "9.99 KiB"), (10_240, "10.0 KiB"),
            (102_400, "100 KiB"), (1_048_064, "1.00 MiB"), (1 << 20, "1.00 MiB"), (13_516_800, "12.9 MiB"), (1 << 40, "1.00 TiB"),
            (Int.max, "8.00 EiB"),
        ])
    func bytes(count: Int, text: String) {
        #expect(Units.bytes(count) == text)
    }

    @Test("times, rates, shares and counts carry their units")
    func units() {
        #expect(Units.seconds(0.000_041) == "41.0 µs")
        #expect(Units.seconds(0.000_999_6) == "1.00 ms")
        #expect(Units.seconds(0.0123) == "12.3 ms")
        #expect(Units.seconds(3.456) == "3.46 s")
        #expect(Units.rate(bytes: 2_345_000_000, seconds: 1) == "2.35 GB/s")
        #expect(Units.rate(bytes: 1, seconds: 0) == "–")
        #expect(Units.percent(0.2345) == "23.5 %")
        #expect(Units.fixed(-1.05, digits: 1) == "-1.1")
        #expect(Units.grouped(16_777_216) == "16,777,216")
        #expect(Units.grouped(-1_000) == "-1,000")
        #expect(Units.grouped(12) == "12")
        #expect(Units.age(milliseconds: 1_000, now: 1_999) == "now")
        #expect(Units.age(milliseconds: 9_000, now: 1_000) == "now")
        #expect(Units.age(milliseconds: 0, now: 59_999) == "59 s")
        #expect(Units.age(milliseconds: 0, now: 3 * 3_600_000) == "3 h")
    }

    private func row() throws -> SessionRow {
        let description = try SessionDescription(
            geometry: Geometry(layers: 30, heads: 3, keyDim: 64, valueDim: 32, element: .bfloat16),
            policy: Policy(sink: 16, lag: 128, keepRatio: 0.125, uncompressedLayers: [0, 1]), capacity: 8_192,
            fingerprint: "SmolLM2")
        return SessionRow(
            name: try SessionName("chat-42"), owner: 1_000, state: .resident, description: description, tokens: 2_048,
            sealedChunks: 14, durableTokens: 1_936, residentBytes: 8 << 20, diskBytes: 24 << 20, writer: 4_242, readers: 2,
            lastUsed: 0, created: 0)
    }

    @Test("a listing is a table")
    func listing() throws {
        let text = SessionTable.list([try row()], withOwner: true, now: 5_000)
        #expect(
            text == """
                OWNER  NAME     STATE     TOKENS       RAW    MEMORY      DISK    KEEP  SHAPE                    WRITER  READERS  USED  FAULT
                 1000  chat-42  resident   2,048  33.8 MiB  8.00 MiB  24.0 MiB  12.5 %  30 × 3 × 64+32 bfloat16    4242        2   5 s

                """)
        #expect(SessionTable.list([], withOwner: false, now: 0) == "no sessions\n")
        #expect(SessionTable.show(try row(), now: 0).contains("uncompressed layers    0, 1\n"))
    }

    @Test("a session's JSON has these keys, in this order")
    func sessionKeys() throws {
        let keys = JSONOutput.text(SessionReport(try row())).split(separator: "\n").compactMap { line in
            line.split(separator: "\"").dropFirst().first.map(String.init)
        }
        #expect(
            keys.filter { Int($0) == nil } == [
                "capacity", "created", "disk_bytes", "disposable", "dtype", "durable_tokens", "fault", "fingerprint",
                "keep_ratio",
                "key_dim", "kv_heads", "lag", "last_used_ms", "layers", "name", "owner", "raw_bytes", "readers", "resident_bytes",
                "sealed_chunks", "shared", "sink", "state", "tokens", "uncompressed_layers", "value_dim", "value_weight",
                "writer",
            ])
    }

    @Test("the daemon's status is numbers for programs and units for people")
    func status() {
        let entries = [
            StatusEntry("memory_bytes", "8388608"), StatusEntry("sessions", "1200"),
            StatusEntry("disk_budget_bytes", "unlimited"),
        ]
        let daemon = Welcome(daemon: "lagkvd 1", processID: 7)
        #expect(
            JSONOutput.text(StatusCommand.fields(entries, daemon)) == """
                {
                  "daemon" : "lagkvd 1",
                  "disk_budget_bytes" : "unlimited",
                  "memory_bytes" : 8388608,
                  "process" : 7,
                  "sessions" : 1200
                }
                """)
        #expect(
            StatusCommand.table(entries, daemon)
                == "daemon             lagkvd 1\nprocess            7\nmemory             8.00 MiB\nsessions           1,200\n"
                + "disk budget bytes  unlimited\n")
    }

    @Test(
        "a kernel's release is compared as numbers",
        arguments: [("6.1.0-28-amd64", true), ("5.15.0", false), ("10.2-rc1", true), ("6.0.19", false), ("?", true)])
    func kernels(release: String, isGood: Bool) {
        #expect((Examination.kernel(release: release).verdict == .good) == isGood)
    }

    @Test("what is not good says what was seen, what is needed and what to do")
    func findings() {
        let bad = Finding(
            name: "io_uring", verdict: .bad, seen: "EPERM", threshold: "a ring", cause: "seccomp", remedy: "allow it")
        let text = Finding.text([.good("kernel", seen: "Linux 6.1", threshold: ""), bad])
        #expect(
            text == """
                ok   kernel    Linux 6.1
                BAD  io_uring  EPERM
                               needed: a ring
                               likely: seccomp
                               to do:  allow it
                lagkvd does not work here: 1 bad, 0 weak

                """)
    }

    @Test("the state directory is where the daemon keeps it")
    func stateDirectory() {
        #expect(StateDirectory.standard(["HOME": "/home/a"], user: 1_000) == "/home/a/.local/state/lagkvd")
        #expect(StateDirectory.standard(["HOME": "/home/a", "XDG_STATE_HOME": "/s"], user: 1_000) == "/s/lagkvd")
        #expect(StateDirectory.standard(["HOME": "/root"], user: 0) == "/var/lib/lagkvd")
        #expect(StateDirectory.standard(["HOME": "relative"], user: 1_000) == nil)
    }

    @Test("quantiles of no steps and of few")
    func quantiles() {
        #expect([Double]().quantile(0.5) == 0)
        #expect([3.0, 1, 2].quantile(0.5) == 2)
        #expect([3.0, 1, 2].quantile(0.99) == 3)
    }
}
