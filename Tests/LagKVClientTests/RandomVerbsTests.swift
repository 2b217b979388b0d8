import CacheModel
import LagKVClient
import TestDaemon
import Testing
import WireProtocol

/// A session and what it must hold.
private struct Model {
    var session: Session
    var checks: SessionChecks
    var name: SessionName
}

@Suite("random verbs against a real daemon")
struct RandomVerbsTests {
    @Test(
        "after every verb the full view is what was appended and the hot view is its gather",
        arguments: 1...6 as ClosedRange<UInt64>)
    func verbs(seed: UInt64) throws {
        var numbers = SeededNumbers(seed: seed)
        let daemon = try DaemonProcess()
        var client = try LagKVClient.connect(path: daemon.socket)
        var model = try create(client, &numbers, seed)
        for step in 0..<120 {
            let verb = try perform(&model, &client, daemon, &numbers)
            try model.checks.check(model.session, "seed \(seed), step \(step): \(verb)")
        }
    }

    private func create(_ client: LagKVClient, _ numbers: inout SeededNumbers, _ seed: UInt64) throws -> Model {
        let layers = numbers.int(1...3)
        let description = try SessionDescription(
            geometry: Geometry(
                layers: layers, heads: numbers.int(1...3), keyDim: numbers.int(1...40), valueDim: numbers.int(1...40),
                element: ElementType.allCases[numbers.int(0...4)]),
            policy: Policy(
                sink: numbers.int(0...20), lag: numbers.int(2...30), keepRatio: Double(numbers.int(5...100)) / 100,
                uncompressedLayers: (0..<layers).filter { _ in numbers.int(0...3) == 0 }), capacity: 600, fingerprint: "random")
        let name = try SessionName("a")
        let tokens = Tokens(geometry: description.geometry, seed: seed, count: 0)
        return Model(session: try client.create(name, description), checks: SessionChecks(tokens: tokens), name: name)
    }

    /// - Returns: what was done, for the record of a failure.
    private func perform(
        _ model: inout Model, _ client: inout LagKVClient, _ daemon: DaemonProcess, _ numbers: inout SeededNumbers
    ) throws -> String {
        let tokens = model.checks.tokens.count
        let room = model.session.description.capacity - tokens
        switch numbers.int(0...15) {
        case 0...6:
            let count = min(room, numbers.int(0...3) == 0 ? numbers.int(0...150) : numbers.int(0...5))
            try model.session.append(model.checks.tokens, tokens..<tokens + count)
            model.checks = SessionChecks(tokens: model.checks.tokens.with(count: tokens + count), recalled: model.checks.recalled)
            return "append \(count)"
        case 7, 8: return try recall(&model, &numbers)
        case 9:
            try model.session.release()
            model.checks.recalled = [:]
            return "release"
        case 10, 11:
            let length = numbers.int(0...tokens)
            try model.session.truncate(to: length)
            model.checks = SessionChecks(tokens: model.checks.tokens.with(count: length))
            return "truncate to \(length)"
        case 12:
            try model.session.suspend()
            try reopen(&model, client)
            return "suspend and open"
        case 13:
            try model.session.close()
            try reopen(&model, client)
            return "close and open"
        case 14:
            let length = numbers.int(0...tokens)
            let name = try SessionName("fork-\(numbers.next())")
            try model.session.fork(as: name, tokens: length)
            try model.session.close()
            model.name = name
            model.checks = SessionChecks(tokens: model.checks.tokens.with(count: length))
            try reopen(&model, client)
            return "fork at \(length)"
        default:
            try model.session.sync(window: true)
            daemon.kill()
            try daemon.start()
            client = try LagKVClient.connect(path: daemon.socket)
            try reopen(&model, client)
            return "sync, kill and start"
        }
    }

    private func reopen(_ model: inout Model, _ client: LagKVClient) throws {
        model.session = try client.open(model.name, write: true, fingerprint: "random")
        model.checks.recalled = [:]
    }

    private func recall(_ model: inout Model, _ numbers: inout SeededNumbers) throws -> String {
        let description = model.session.description
        let layer = numbers.int(0...description.geometry.layers - 1)
        let sealed = description.policy.sealedChunks(tokens: model.checks.tokens.count)
        let held = model.checks.recalled[layer] ?? Array(repeating: [], count: description.geometry.heads)
        let free = held.map { held in (0..<sealed).filter { !held.contains($0) }.shuffled(using: &numbers) }
        let count = min(free[0].count, numbers.int(1...3))
        guard count > 0, description.policy.evicted(inLayer: layer) > 0 else { return "nothing to recall" }
        let chosen = free.map { Array($0.prefix(count)) }
        try model.session.recall(layer: layer, chunks: chosen)
        model.checks.recalled[layer] = zip(held, chosen).map { $0 + $1 }
        return "recall \(chosen) of layer \(layer)"
    }
}

extension Tokens {
    func with(count: Int) -> Tokens { Tokens(geometry: geometry, seed: seed, count: count) }
}
