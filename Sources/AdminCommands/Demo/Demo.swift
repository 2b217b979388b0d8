internal import CacheModel
internal import LagKVClient
internal import LinuxKit
internal import Safetensors
internal import WireProtocol

/// The walk. Each step says what it does, does it, and shows what came of it.
struct Demo: ~Copyable {
    private var daemon: PrivateDaemon
    private let description: SessionDescription
    private let replay: Replay
    private var client: LagKVClient
    private var progress = Progress()
    private var stepNumber = 0

    private var tokens: Int { replay.capture.tokens }
    private var rawBytes: Int { tokens * description.geometry.tokenBytes }

    init(daemon: consuming PrivateDaemon, description: SessionDescription, replay: Replay) throws {
        client = try LagKVClient.connect(path: daemon.socket, as: "lagkvctl demo")
        self.daemon = daemon
        self.description = description
        self.replay = replay
    }

    mutating func run() throws {
        let name = try SessionName("demo")
        step("a daemon of our own", "process \(daemon.processID), state in \(daemon.stateDirectory)")
        var session = try client.create(name, description)
        try append(session)
        if description.policy.sealedChunks(tokens: tokens) >= 2 { try recall(session) }
        session = try suspendAndResume(session, name)
        try truncateAndAppendAgain(session)
        try fork(session)
        try session.close()
        try killDaemon(name)
        try client.delete(name)
        print("\nEverything came back bit for bit.")
    }

    private mutating func step(_ title: String, _ detail: String) {
        stepNumber += 1
        print("\(stepNumber). \(title)\n   \(detail)")
    }

    private func tell(_ text: String) { print("   \(text)") }

    /// Compares with what went in.
    private mutating func check(_ session: Session, tokens: Int) throws {
        let comparison = try replay.compare(session, tokens: tokens, progress: &progress)
        if let difference = comparison.difference { throw CommandFailure(.checkFailed, difference) }
        let rows = comparison.viewTokens.max() ?? 0
        tell(
            "compared: \(Units.grouped(tokens)) tokens of full view and \(Units.grouped(rows)) rows of hot view a head are bit for bit right"
        )
    }

    private mutating func append(_ session: Session) throws {
        let policy = description.policy
        step(
            "append \(Units.grouped(tokens)) tokens of \(SessionTable.shape(description.geometry)): a prompt, then one at a time",
            "each \(policy.lag) tokens complete a chunk; the one before it is scored, \(policy.keptPerChunk) of its tokens stay in memory"
        )
        let streamed = try replay.stream(into: session, progress: &progress)
        try session.sync()
        let row = try session.show()
        let promptBytes = streamed.prefillTokens * description.geometry.tokenBytes
        tell(
            "prompt: \(Units.seconds(streamed.prefillSeconds)), \(Units.rate(bytes: promptBytes, seconds: streamed.prefillSeconds)); "
                + "steps: p50 \(Units.seconds(streamed.stepSeconds.quantile(0.5))), p99 \(Units.seconds(streamed.stepSeconds.quantile(0.99)))"
        )
        tell("\(row.sealedChunks) chunks sealed; memory \(share(try session.slabBytesInMemory)), disk \(share(row.diskBytes))")
        try check(session, tokens: tokens)
    }

    private func share(_ bytes: Int) -> String {
        "\(Units.bytes(bytes)) (\(Units.percent(Double(bytes) / Double(max(1, rawBytes)))) of \(Units.bytes(rawBytes)) raw)"
    }

    private mutating func recall(_ session: Session) throws {
        step("recall two chunks of every head of every layer", "their evicted tokens join the hot view until they are released")
        let heads = description.geometry.heads
        let layers = (0..<description.geometry.layers).filter { description.policy.evicted(inLayer: $0) > 0 }
        let choices = try layers.map { try RecallChoice(layer: $0, chunks: Array(repeating: [0, 1], count: heads)) }
        guard let layer = layers.first else { return tell("nothing is evicted at this ratio") }
        let before = try session.view(layer: layer).count
        let seconds = try measured { try session.recall(choices) }.seconds
        tell(
            "\(Units.seconds(seconds)): the view of layer \(layer) grew from \(before) to \(try session.view(layer: layer).count) rows a head"
        )
        try check(session, tokens: tokens)
        try session.release()
    }

    private mutating func suspendAndResume(_ session: Session, _ name: SessionName) throws -> Session {
        step(
            "suspend the session, and open it again", "only its newest tokens are not on disk yet; memory goes back to the system"
        )
        let suspended = try measured { try session.suspend() }
        let opened = try measured { try client.open(name, write: true, fingerprint: "demo") }
        tell("suspend \(Units.seconds(suspended.seconds)), resume and attach \(Units.seconds(opened.seconds))")
        try check(opened.value, tokens: tokens)
        return opened.value
    }

    private mutating func truncateAndAppendAgain(_ session: Session) throws {
        let length = tokens / 2
        step(
            "truncate to \(Units.grouped(length)) tokens, as an edited chat would",
            "chunks that lose their reference are unsealed, from disk")
        tell("truncate \(Units.seconds(try measured { try session.truncate(to: length) }.seconds))")
        try check(session, tokens: length)
        try replay.append(length..<tokens, to: session)
        tell("appended the rest again")
        try check(session, tokens: tokens)
    }

    private mutating func fork(_ session: Session) throws {
        let length = tokens * 3 / 4
        step("fork it at \(Units.grouped(length)) tokens", "chunk files are shared; the first session is not changed")
        let name = try SessionName("demo-fork")
        try session.sync()
        let before = try diskBytes()
        let seconds = try measured { try session.fork(as: name, tokens: length) }.seconds
        tell("\(Units.seconds(seconds)), \(Units.bytes(max(0, try diskBytes() - before))) more on disk")
        try check(try client.open(name), tokens: length)
        try client.delete(name)
    }

    private func diskBytes() throws -> Int {
        try client.status().first { $0.key == "disk_bytes" }.flatMap { Int($0.value) } ?? 0
    }

    private mutating func killDaemon(_ name: SessionName) throws {
        step("kill the daemon (kill -9), and start it again", "every sealed chunk is on disk; so is what was synced or suspended")
        try client.suspend(name)
        let started = try measured { try daemon.killAndStart() }
        client = try LagKVClient.connect(path: daemon.socket, as: "lagkvctl demo")
        tell("up again after \(Units.seconds(started.seconds)), process \(daemon.processID)")
        try check(try client.open(name), tokens: tokens)
    }
}
