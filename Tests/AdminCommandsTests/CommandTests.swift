import CacheModel
import Foundation
import LagKVClient
import TestDaemon
import Testing
import WireProtocol

@testable import AdminCommands

/// `lagkvctl` as it is built, against a daemon of the test's own.
@Suite("lagkvctl against a real daemon")
struct CommandTests {
    private let daemon: DaemonProcess
    private let client: LagKVClient

    init() throws {
        daemon = try DaemonProcess()
        client = try LagKVClient.connect(path: daemon.socket)
    }

    private struct Outcome {
        var status: Int32
        var output: String
        var error: String
    }

    private func run(_ arguments: String..., socket: String? = nil) throws -> Outcome {
        let process = Process()
        process.executableURL = DaemonProcess.buildDirectory.appending(path: "lagkvctl")
        process.arguments = arguments
        process.environment = ["LAGKVD_SOCKET": socket ?? daemon.socket, "HOME": daemon.directory.path, "PATH": "/usr/bin:/bin"]
        let (output, error) = (daemon.directory.appending(path: "out"), daemon.directory.appending(path: "err"))
        for file in [output, error] { try Data().write(to: file) }
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: error)
        try process.run()
        process.waitUntilExit()
        return Outcome(
            status: process.terminationStatus, output: try String(contentsOf: output, encoding: .utf8),
            error: try String(contentsOf: error, encoding: .utf8))
    }

    /// A capture of 300 tokens in a file.
    private func capture() throws -> String {
        let path = daemon.directory.appending(path: "capture.safetensors").path
        let description = try SessionDescription(
            geometry: Geometry(layers: 2, heads: 2, keyDim: 16, valueDim: 8, element: .bfloat16),
            policy: Policy(sink: 4, lag: 32, keepRatio: 0.25), capacity: 300, fingerprint: "test")
        try SyntheticCapture.write(to: path, description, tokens: 300, seed: 1)
        return path
    }

    private func fields(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    @Test("a replay comes back bit for bit, and is kept where that is asked for")
    func replay() throws {
        let file = try capture()
        let first = try run("replay", file, "--json", "--sink", "4", "--lag", "32", "--step", "7", "--keep", "--session", "r")
        #expect(first.status == 0, "\(first.error)")
        let report = try fields(first.output)
        #expect(report["difference"] as? String == "")
        #expect(report["tokens"] as? Int == 300)
        // Nine chunks are complete, eight are sealed: sink, 8 kept of each, and a window of 300 − 4 − 8 · 32.
        #expect(report["view_tokens"] as? [Int] == Array(repeating: 4 + 8 * 8 + 40, count: 2))

        let exported = daemon.directory.appending(path: "x.safetensors").path
        #expect(try run("session", "export", "r", "--output", exported).status == 0)
        #expect(try run("replay", exported).output.contains("bit for bit         yes"))
        #expect(try client.sessions().map(\.name.text) == ["r"])
    }

    @Test("sessions are shown, suspended, resumed, forked, renamed and deleted")
    func sessions() throws {
        #expect(try run("session").output == "no sessions\n")
        let file = try capture()
        #expect(try run("replay", file, "--keep", "--session", "a").status == 0)
        #expect(try fields(run("session", "show", "a", "--json").output)["tokens"] as? Int == 300)
        #expect(try fields(run("session", "resume", "a", "--json").output)["state"] as? String == "resident")
        #expect(try fields(run("session", "suspend", "a", "--json").output)["state"] as? String == "suspended")
        #expect(try fields(run("session", "fork", "a", "b", "--tokens", "100", "--json").output)["tokens"] as? Int == 100)
        #expect(try run("session", "rename", "b", "c").status == 0)
        #expect(try run("session", "delete", "a").status == 0)
        let list = try run("session", "list", "--json").output
        let rows = try #require(try JSONSerialization.jsonObject(with: Data(list.utf8)) as? [[String: Any]])
        #expect(rows.map { $0["name"] as? String } == ["c"])
    }

    @Test("each kind of failure has its exit status")
    func exitStatus() throws {
        #expect(try run("status").status == 0)
        #expect(try run("status", socket: "/nonexistent").status == 3)
        let missing = try run("session", "show", "nobody")
        #expect(missing.status == 4)
        #expect(missing.error.contains("notFound"))
        #expect(try run("session", "show", "a/b").status == 64)
        #expect(try run("frobnicate").status == 64)
        #expect(try run("replay", "/nonexistent").status == 6)
        #expect(try run("replay", "/proc/self/status").status == 6)
        #expect(try run("replay", try capture(), "--keep-ratio", "2").status == 64)
        #expect(try run("verify", "/nonexistent").status == 6)
        #expect(try run("metrics").output.hasSuffix("# EOF\n"))
        #expect(try run("--generate-completion-script", "bash").output.contains("lagkvctl"))
    }

    @Test("doctor finds what the tests themselves need")
    func doctor() throws {
        let outcome = try run("doctor", "--json", "--state-directory", daemon.stateDirectory)
        let findings = try #require(try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]])
        #expect(outcome.status == 0, "\(outcome.output)")
        let verdicts = Dictionary(findings.map { ($0["name"] as? String ?? "", $0["verdict"] as? String ?? "") }) { first, _ in
            first
        }
        #expect(verdicts["io_uring"] == "good" && verdicts["daemon"] == "good" && verdicts["shared memory"] == "good")
    }

    @Test("verify finds nothing wrong, and then every flipped byte", arguments: [1, 2, 3] as [UInt64])
    func verify(seed: UInt64) throws {
        let file = try capture()
        #expect(try run("replay", file, "--keep", "--session", "a", "--sink", "4", "--lag", "32").status == 0)
        #expect(try run("session", "fork", "a", "b", "--tokens", "120").status == 0)
        let clean = try fields(run("verify", daemon.stateDirectory, "--json").output)
        #expect(clean["sessions"] as? Int == 2)
        #expect((clean["problems"] as? [Any])?.count == 0)
        #expect(daemon.stop() == 0)

        var random = SplitMix(state: seed)
        let sessions = URL(filePath: daemon.stateDirectory).appending(path: "sessions")
        let files = try #require(FileManager.default.enumerator(at: sessions, includingPropertiesForKeys: nil)).compactMap {
            $0 as? URL
        }
        .filter { !$0.hasDirectoryPath }.sorted { $0.path < $1.path }
        for _ in 0..<40 {
            let victim = files[Int(random.next() % UInt64(files.count))]
            let whole = try Data(contentsOf: victim)
            let place = Int(random.next() % UInt64(whole.count))
            // Written in place, so that forks see it as well, as they would see a bad disk.
            try overwrite(victim, at: place, with: whole[place] ^ UInt8(1 << (random.next() % 8)))
            let found = try StateVerifier(path: daemon.stateDirectory).run()
            #expect(!found.problems.isEmpty, "seed \(seed): byte \(place) of \(victim.lastPathComponent), \(whole.count) bytes")
            try overwrite(victim, at: place, with: whole[place])
        }
        #expect(try StateVerifier(path: daemon.stateDirectory).run().problems.isEmpty)

        // A chunk that is missing below the window.
        let chunk = try #require(files.first { $0.path.contains("/a/chunk-000000") })
        try FileManager.default.removeItem(at: chunk)
        let broken = try run("verify", daemon.stateDirectory)
        #expect(broken.status == 1)
        #expect(broken.output.contains("BAD"))
    }

    private func overwrite(_ file: URL, at place: Int, with byte: UInt8) throws {
        let handle = try FileHandle(forUpdating: file)
        try handle.seek(toOffset: UInt64(place))
        try handle.write(contentsOf: [byte])
        try handle.close()
    }

    @Test("the demo goes through")
    func demo() throws {
        let outcome = try run("demo", "--tokens", "400", "--lag", "32")
        #expect(outcome.status == 0, "\(outcome.error)")
        #expect(outcome.output.hasSuffix("Everything came back bit for bit.\n"))
    }
}

/// SplitMix64.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
