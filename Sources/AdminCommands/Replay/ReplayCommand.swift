internal import ArgumentParser
internal import CacheModel
internal import LagKVClient
internal import LinuxKit
internal import Safetensors
internal import WireProtocol

struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Stream a capture of keys and values through a session, as an engine would.",
        discussion: """
            FILE holds tensors layerN.k and layerN.v, [heads, tokens, dim]: what `session export` writes. The first part goes in \
            at once, as a prompt does, the rest step by step; then the session is suspended and opened again, and the full view \
            and the hot view of every layer are compared with the file, bit for bit. Exit status 1 if they differ.
            """)

    @Argument(help: ArgumentHelp("The capture.", valueName: "file"), completion: .file(extensions: ["safetensors"]))
    var file: String

    @Option(
        help: ArgumentHelp("Name of the session, which is deleted afterwards.", valueName: "name"), transform: SessionNames.parse)
    var session: SessionName?

    @Flag(help: "Keep the session.")
    var keep = false

    @OptionGroup var policy: PolicyOptions

    @Option(help: ArgumentHelp("Tokens that go in at once first; half of them if not given.", valueName: "tokens"))
    var prefill: Int?

    @Option(help: ArgumentHelp("Tokens of each step after that.", valueName: "tokens"))
    var step = 1

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if step < 1 { throw ValidationError("--step is \(step), and must be at least 1") }
        if let prefill, prefill < 0 { throw ValidationError("--prefill is \(prefill), and must not be negative") }
    }

    func run() throws {
        let capture = try Capture(path: file)
        let client = try connection.connect()
        let name = try session ?? SessionName("replay-\(Kernel.processID)")
        let description = try SessionDescription(
            geometry: capture.geometry, policy: policy.policy(), capacity: max(1, capture.tokens), fingerprint: "replay")
        let replay = Replay(capture: capture, prefill: prefill ?? capture.tokens / 2, step: step)
        let report: ReplayReport
        do {
            report = try Self.run(replay, name, description, client)
        } catch {
            if !keep { try? client.delete(name) }
            throw error
        }
        if !keep { try client.delete(name) }
        if output.json { JSONOutput.print(report) } else { print(report.text, terminator: "") }
        if !report.difference.isEmpty { throw CommandFailure(.checkFailed) }
    }

    static func run(
        _ replay: Replay, _ name: SessionName, _ description: SessionDescription, _ client: LagKVClient
    ) throws -> ReplayReport {
        var progress = Progress()
        let session = try client.create(name, description)
        let streamed = try replay.stream(into: session, progress: &progress)
        let sync = try measured { try session.sync() }
        let slabBytes = try session.slabBytesInMemory
        let resident = try session.show()
        let suspended = try measured { try session.suspend() }
        let opened = try measured { try client.open(name) }
        let compared = try replay.compare(opened.value, tokens: replay.capture.tokens, progress: &progress)
        try opened.value.close()

        let (geometry, policy) = (description.geometry, description.policy)
        let steps = streamed.stepSeconds
        let viewTokens = compared.viewTokens
        return ReplayReport(
            session: name.text, tokens: replay.capture.tokens, layers: geometry.layers, kvHeads: geometry.heads,
            keyDim: geometry.keyDim, valueDim: geometry.valueDim, dtype: geometry.element.name, sink: policy.sink,
            lag: policy.lag,
            keepRatio: policy.keepRatio, rawBytes: replay.capture.tokens * geometry.tokenBytes,
            sealedChunks: sync.value.sealedChunks, viewTokens: viewTokens,
            viewBytes: viewTokens.reduce(0) { $0 + $1 * geometry.layerTokenBytes }, slabBytes: slabBytes,
            residentBytes: resident.residentBytes, diskBytes: suspended.value.diskBytes, prefillTokens: streamed.prefillTokens,
            prefillSeconds: streamed.prefillSeconds, stepTokens: replay.step, steps: steps.count,
            stepSecondsTotal: steps.reduce(0, +), stepSecondsP50: steps.quantile(0.5), stepSecondsP99: steps.quantile(0.99),
            stepSecondsMax: steps.max() ?? 0, syncSeconds: sync.seconds, suspendSeconds: suspended.seconds,
            openSeconds: opened.seconds, fullSeconds: compared.fullSeconds, difference: compared.difference ?? "")
    }
}
