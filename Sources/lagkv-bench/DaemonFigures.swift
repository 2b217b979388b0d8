internal import CacheModel
internal import LagKVClient
internal import LinuxKit
internal import WireProtocol

/// What a client sees of the whole line.
struct DaemonFigures {
    let sample: SampleKV
    let daemon: PrivateDaemon
    let tokens: Int
    /// On the disk whose limits count.
    let directory: String

    func measure(_ groups: [FigureGroup], into report: inout Report) throws {
        let client = try daemon.connect()
        if groups.contains(.append) { try measureAppend(client, into: &report) }
        if groups.contains(.large) { try measureLarge(client, into: &report) }
        if groups.contains(.messages) { try measureMessages(client, into: &report) }
        if groups.contains(.recall) { try measureRecall(client, into: &report) }
    }

    /// What a virtual machine can do changes by a third within a minute: a figure is held against limits of its own moment.
    private func limitsNow() throws -> MachineLimits { try MachineLimits.measure(directory: directory) }

    private func description(_ geometry: Geometry, capacity: Int) -> SessionDescription {
        let policy = try! Policy(sink: 16, lag: 128, keepRatio: 0.125)
        return try! SessionDescription(geometry: geometry, policy: policy, capacity: capacity, fingerprint: "bench")
    }

    /// Tokens of a prompt that an engine's prefill brings at once.
    private var prompt: Int { min(tokens, 2_048) }

    // MARK: Append

    /// A prompt that goes in at once. The first rounds warm the daemon's buffers and the machine's free pages.
    private func measureAppend(_ client: LagKVClient, into report: inout Report) throws {
        let limits = try limitsNow()
        let geometry = SampleKV.llama
        let (keys, values) = sample.tensors(geometry, tokens: prompt)
        let name = try SessionName("prompt")
        /// The session's memory is let go of when this returns, so that the next one can have it.
        func append() throws -> Double {
            let session = try client.create(name, description(geometry, capacity: 2 * tokens))
            let seconds = try Stopwatch.seconds { try session.append(keys: keys.bytes, values: values.bytes, count: prompt) }
            try session.sync()
            return seconds
        }
        var best = Double.infinity
        for _ in 0..<12 {
            best = min(best, try append())
            try client.delete(name)
        }
        report.add(
            Figure(
                name: "append a prompt of \(prompt) tokens, r = 1/8", value: Double(prompt * geometry.tokenBytes) / 1e9 / best, unit: "GB/s",
                limit: limits.copyGBs, limitName: "memcpy", floor: Figure.atLeast(0.4), aim: Figure.atLeast(0.7)))
    }

    // MARK: A large session

    private static let large = try! SessionName("large")

    private func measureLarge(_ client: LagKVClient, into report: inout Report) throws {
        try appendLarge(client, into: &report)
        try bringBackLarge(client, into: &report)
        try measureAttach(client, Self.large, "\((tokens * SampleKV.llama.tokenBytes) >> 20) MiB", into: &report)
    }

    private func appendLarge(_ client: LagKVClient, into report: inout Report) throws {
        let limits = try limitsNow()
        let geometry = SampleKV.llama
        let (keys, values) = sample.tensors(geometry, tokens: prompt)
        let session = try client.create(Self.large, description(geometry, capacity: 2 * tokens))
        let whole = try Stopwatch.seconds {
            for _ in 0..<tokens / prompt { try session.append(keys: keys.bytes, values: values.bytes, count: prompt) }
            try session.sync()
        }
        report.add(
            Figure(
                name: "append until all is on disk", value: Double(tokens * geometry.tokenBytes) / 1e9 / whole, unit: "GB/s",
                limit: limits.diskWriteGBs, limitName: "disk write", aim: Figure.atLeast(0.8)))
        try noteMemory(client, session, into: &report)
        try session.close()
    }

    private func noteMemory(_ client: LagKVClient, _ session: Session, into report: inout Report) throws {
        let allocated = try client.status().first { $0.key == "memory_allocated_bytes" }.flatMap { Double($0.value) } ?? 0
        let geometry = session.description.geometry
        let view = try session.description.policy.residentTokens(tokens: session.tokens, layer: 0) * geometry.tokenBytes
        report.note("memory after sealing", "\(Report.text(allocated / Double(view))) × the view's bytes, as the kernel counts")
    }

    private func bringBackLarge(_ client: LagKVClient, into report: inout Report) throws {
        let limits = try limitsNow()
        let bytes = Double(tokens * SampleKV.llama.tokenBytes)
        var resume = Double.infinity
        for _ in 0..<4 {
            try client.suspend(Self.large)
            resume = min(resume, try Stopwatch.seconds { try client.resume(Self.large) })
        }
        report.add(
            Figure(
                name: "resume of the hot view, cold, r = 1/8", value: resume, unit: "s", limit: bytes / 1e9 / limits.diskReadGBs,
                limitName: "s to read all of it raw", floor: Figure.atMost(0.3), aim: Figure.atMost(0.2)))
        let session = try client.open(Self.large)
        let full = try Stopwatch.best(of: 6) {
            for layer in 0..<SampleKV.llama.layers { consume(try session.full(layer: layer, again: true)) }
        }
        report.add(
            Figure(
                name: "full view from cold disk", value: bytes / 1e9 / full, unit: "GB/s", limit: limits.diskReadGBs,
                limitName: "disk read", floor: Figure.atLeast(0.8), aim: Figure.atLeast(1.25)))
        try session.close()
    }

    // MARK: Messages

    private func measureMessages(_ client: LagKVClient, into report: inout Report) throws {
        let limits = try limitsNow()
        let small = try SessionName("small")
        let geometry = SampleKV.smol
        let (keys, values) = sample.tensors(geometry, tokens: 48)
        let session = try client.create(small, description(geometry, capacity: 8_192))
        try session.append(keys: keys.bytes, values: values.bytes, count: 48)
        let count = try session.tokens
        let commit = try Stopwatch.median(of: 5_000) { try session.commit(tokens: count, .durable) } * 1e6
        report.add(
            Figure(
                name: "commit, there and back, p50", value: commit, unit: "µs", limit: limits.pingPongMicroseconds,
                limitName: "ping-pong", floor: Figure.atMost(3), aim: Figure.atMost(2)))
        let steps = 1_000
        let silent = try Stopwatch.best(of: 20) { for _ in 0..<steps { try session.commit(tokens: count) } }
        report.add(
            Figure(name: "commit that seals nothing", value: silent / Double(steps) * 1e9, unit: "ns", aim: Figure.atMost(200)))
        try session.close()
        try measureAttach(client, small, "1 MiB", into: &report)
    }

    private func measureAttach(_ client: LagKVClient, _ name: SessionName, _ size: String, into report: inout Report) throws {
        try client.resume(name)
        let attach = try Stopwatch.median(of: 300) { try client.open(name).close() } * 1e6
        report.add(
            Figure(name: "attach and let go, \(size), p50", value: attach, unit: "µs", floor: Figure.atMost(300), aim: Figure.atMost(150)))
    }

    // MARK: Recall

    private func measureRecall(_ client: LagKVClient, into report: inout Report) throws {
        let geometry = SampleKV.smol
        let (keys, values) = sample.tensors(geometry, tokens: 2_048)
        let session = try client.create(try SessionName("recall"), description(geometry, capacity: 8_192))
        try session.append(keys: keys.bytes, values: values.bytes, count: 2_048, durable: true)
        let choices = try (0..<geometry.layers).map {
            try RecallChoice(layer: $0, chunks: (0..<geometry.heads).map { [$0, 7 + $0] })
        }
        var seconds = Double.infinity
        for _ in 0..<20 {
            seconds = min(seconds, try Stopwatch.seconds { try session.recall(choices) })
            try session.release()
        }
        report.add(
            Figure(
                name: "recall of 2 chunks, all layers and heads, SmolLM2", value: seconds * 1e3, unit: "ms", aim: Figure.atMost(10)))
        try session.close()
    }
}
