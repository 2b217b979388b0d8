internal import ArgumentParser
internal import CacheModel
internal import FoundationEssentials
internal import LagKVClient
internal import LinuxKit
internal import Safetensors
internal import WireProtocol

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo", abstract: "Walk through what lagkvd does, on a daemon and a session of its own.",
        discussion: """
            Needs no model and no running daemon: it starts a private lagkvd in a temporary directory, kills it on the way, and \
            removes everything at the end. Every step compares what comes back with what went in, bit for bit; exit status 1 if \
            anything differs.
            """)

    @Argument(
        help: ArgumentHelp("A capture to use; made up if not given.", valueName: "file"),
        completion: .file(extensions: ["safetensors"]))
    var file: String?

    @OptionGroup var policy: PolicyOptions

    @Option(help: ArgumentHelp("Tokens to make up.", valueName: "tokens"))
    var tokens = 2_048

    @Option(help: ArgumentHelp("Seed of what is made up.", valueName: "number"))
    var seed: UInt64 = 1

    @Option(help: ArgumentHelp("lagkvd; the one beside lagkvctl if not given.", valueName: "path"), completion: .file())
    var daemon: String?

    func validate() throws {
        if !(1...Limits.tokens).contains(tokens) { throw ValidationError("--tokens is \(tokens); 1 to \(Limits.tokens) work") }
    }

    func run() throws {
        let capture = try file.map { try Capture(path: $0) } ?? madeUp()
        let description = try SessionDescription(
            geometry: capture.geometry, policy: policy.policy(), capacity: capture.tokens, fingerprint: "demo")
        var demo = try Demo(
            daemon: PrivateDaemon(executable: daemon), description: description,
            replay: Replay(capture: capture, prefill: capture.tokens * 3 / 4, step: 1))
        try demo.run()
    }

    /// In the shape of SmolLM2-135M's cache. The file loses its name once it is mapped.
    private func madeUp() throws -> Capture {
        let path = FileManager.default.temporaryDirectory.appending(path: "lagkvctl-demo-\(Kernel.processID).safetensors").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let description = try SessionDescription(
            geometry: Geometry(layers: 30, heads: 3, keyDim: 64, valueDim: 64, element: .bfloat16), policy: policy.policy(),
            capacity: tokens, fingerprint: "demo")
        do {
            try SyntheticCapture.write(to: path, description, tokens: tokens, seed: seed)
        } catch let error as KernelError {
            throw CommandFailure(.badFile, "\(error)")
        }
        return try Capture(path: path)
    }
}
