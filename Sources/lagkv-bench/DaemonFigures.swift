internal import CacheModel
internal import LagKVClient
internal import LinuxKit
internal import WireProtocol

/// What a client sees of the whole line.
struct DaemonFigures {
    let sample: SampleKV
    let daemon: PrivateDaemon
    let tokens: Int

    func measure(_ groups: [FigureGroup], against limits: MachineLimits, into report: inout Report) throws {
        let client = try daemon.connect()
        if groups.contains(.append) { try measureAppend(client, against: limits, into: &report) }
        if groups.contains(.large) { try measureLarge(client, against: limits, into: &report) }
        if groups.contains(.messages) { try measureMessages(client, against: limits, into: &report) }
        if groups.contains(.recall) { try measureRecall(client, into: &report) }
    }

    private func description(_ geometry: Geometry, capacity: Int) -> SessionDescription {
        let policy = try! Policy(sink: 16, lag: 128, keepRatio: 0.125)
        return try! SessionDescription(geometry: geometry, policy: policy, capacity: capacity, fingerprint: "bench")
    }

    /// Tokens of a prompt that an engine's prefill brings at once.
    private var prompt: Int { min(tokens, 2_048) }

    // MARK: Append

    /// A prompt that goes in at once. The first rounds warm the daemon's buffers and the machine's free pages.
    private func measureAppend(_ client: LagKVClient, against limits: MachineLimits, into report: inout Report) throws {
        let geometry = SampleKV.llama
        let (keys, values) = sample.tensors(geometry, tokens: prompt)
        let name = try SessionName("prompt")
        /// The session's memory is let go of when this returns, so that the next one can have it.
        func append() throws -> Double {
            defer { try? client.delete(name) }
            let session = try client.create(name, description(geometry, capacity: 2 * tokens))
            let seconds = try Stopwatch.seconds { try session.append(keys: keys.bytes, values: values.bytes, count: prompt) }
            try session.sync()
            return seconds
        }
        let best = try Stopwatch.inTurn(12, limit: { limits.copy() }, figure: append)
        report.add(
            Figure(
                name: "append a prompt of \(prompt) tokens, r = 1/8", value: Double(prompt * geometry.tokenBytes) / 1e9 / best.figure, unit: "GB/s",
                limit: MachineLimits.gbs(best.limit), limitName: "memcpy", floor: Figure.atLeast(0.4), aim: Figure.atLeast(0.7)))
    }

    // MARK: A large session

    private static let large = try! SessionName("large")

    private func measureLarge(_ client: LagKVClient, against limits: MachineLimits, into report: inout Report) throws {
        try appendLarge(client, against: limits, into: &report)
        try bringBackLarge(client, against: limits, into: &report)
        try measureAttach(client, Self.large, "\((tokens * SampleKV.llama.tokenBytes) >> 20) MiB", into: &report)
    }

    private func appendLarge(_ client: LagKVClient, against limits: MachineLimits, into report: inout Report) throws {
        let geometry = SampleKV.llama
        let (keys, values) = sample.tensors(geometry, tokens: prompt)
        func append() throws -> Double {
            try? client.delete(Self.large)
            let session = try client.create(Self.large, description(geometry, capacity: 2 * tokens))
            return try Stopwatch.seconds {
                for _ in 0..<tokens / prompt { try session.append(keys: keys.bytes, values: values.bytes, count: prompt) }
                try session.sync()
            }
        }
        let best = try Stopwatch.inTurn(3, limit: { try limits.writeNewAndSync() }, figure: append)
        report.add(
            Figure(
                name: "append until all is on disk", value: Double(tokens * geometry.tokenBytes) / 1e9 / best.figure, unit: "GB/s",
                limit: MachineLimits.gbs(best.limit), limitName: "disk write, new and synced", aim: Figure.atLeast(0.8)))
        try noteMemory(client, into: &report)
    }

    private func noteMemory(_ client: LagKVClient, into report: inout Report) throws {
        let session = try client.open(Self.large)
        let allocated = try client.status().first { $0.key == "memory_allocated_bytes" }.flatMap { Double($0.value) } ?? 0
        let geometry = session.description.geometry
        let view = try session.description.policy.residentTokens(tokens: session.tokens, layer: 0) * geometry.tokenBytes
        report.note("memory after sealing", "\(Report.text(allocated / Double(view))) × the view's bytes, as the kernel counts")
        try session.close()
    }

    private func bringBackLarge(_ client: LagKVClient, against limits: MachineLimits, into report: inout Report) throws {
        let bytes = Double(tokens * SampleKV.llama.tokenBytes)
        func resume() throws -> Double {
            try client.suspend(Self.large)
            return try Stopwatch.seconds { try client.resume(Self.large) }
        }
        let resumed = try Stopwatch.inTurn(6, limit: { try limits.readDisk() }, figure: resume)
        report.add(
            Figure(
                name: "resume of the hot view, cold, r = 1/8", value: resumed.figure, unit: "s",
                limit: bytes / 1e9 / MachineLimits.gbs(resumed.limit), limitName: "s to read all of it raw", floor: Figure.atMost(0.3),
                aim: Figure.atMost(0.2)))
        let session = try client.open(Self.large)
        func full() throws -> Double {
            try Stopwatch.seconds {
                for layer in 0..<SampleKV.llama.layers { consume(try session.full(layer: layer, again: true)) }
            }
        }
        let viewed = try Stopwatch.inTurn(8, limit: { try limits.readDisk() }, figure: full)
        report.add(
            Figure(
                name: "full view from cold disk", value: bytes / 1e9 / viewed.figure, unit: "GB/s",
                limit: MachineLimits.gbs(viewed.limit), limitName: "disk read", floor: Figure.atLeast(0.8), aim: Figure.atLeast(1.25)))
        try session.close()
    }

    // MARK: Messages

    private func measureMessages(_ client: LagKVClient, against limits: MachineLimits, into report: inout Report) throws {
        let small = try SessionName("small")
        let geometry = SampleKV.smol
        let (keys, values) = sample.tensors(geometry, tokens: 48)
        let session = try client.create(small, description(geometry, capacity: 8_192))
        try session.append(keys: keys.bytes, values: values.bytes, count: 48)
        let count = try session.tokens
        let best = try Stopwatch.inTurn(
            5, limit: { try limits.pingPong() },
            figure: { try Stopwatch.median(of: 1_000) { try session.commit(tokens: count, .durable) } })
        report.add(
            Figure(
                name: "commit, there and back, p50", value: best.figure * 1e6, unit: "µs", limit: best.limit * 1e6,
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
