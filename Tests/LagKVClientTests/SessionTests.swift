import CacheModel
import Foundation
import LagKVClient
import LinuxKit
import TestDaemon
import Testing
import WireProtocol

@Suite("the client against a real daemon")
struct SessionTests {
    private let daemon: DaemonProcess
    private let client: LagKVClient

    init() throws {
        daemon = try DaemonProcess()
        client = try LagKVClient.connect(path: daemon.socket)
    }

    private func describe(
        _ element: ElementType = .bfloat16, layers: Int = 2, heads: Int = 2, keyDim: Int = 16, valueDim: Int = 8, sink: Int = 4,
        lag: Int = 16, keepRatio: Double = 0.25, uncompressed: [Int] = [], capacity: Int = 1_000, fingerprint: String = "test"
    ) throws -> SessionDescription {
        try SessionDescription(
            geometry: Geometry(layers: layers, heads: heads, keyDim: keyDim, valueDim: valueDim, element: element),
            policy: Policy(sink: sink, lag: lag, keepRatio: keepRatio, uncompressedLayers: uncompressed), capacity: capacity,
            fingerprint: fingerprint)
    }

    @Test(
        "what is appended comes back bit for bit, and the view is its gather", arguments: ElementType.allCases,
        [0.05, 0.25, 1.0])
    func everyElement(element: ElementType, keepRatio: Double) throws {
        let description = try describe(element, keepRatio: keepRatio, uncompressed: [1])
        let session = try client.create(SessionName("a"), description)
        var checks = SessionChecks(tokens: Tokens(geometry: description.geometry, seed: 7, count: 0))
        for count in [1, 3, 40, 0, 200, 16] {
            let begin = checks.tokens.count
            try session.append(checks.tokens, begin..<begin + count)
            checks = SessionChecks(tokens: Tokens(geometry: description.geometry, seed: 7, count: begin + count))
            try checks.check(session, "after \(begin + count) tokens")
        }
    }

    @Test("many tokens at once, which go by inlets, make the session that few at a time make", arguments: [0.1, 1.0])
    func inlets(keepRatio: Double) throws {
        let description = try describe(
            layers: 3, keyDim: 64, valueDim: 32, sink: 5, keepRatio: keepRatio, uncompressed: [1], capacity: 5_000)
        let session = try client.create(SessionName("many"), description)
        let other = try client.create(SessionName("few"), description)
        var count = 0
        // A megabyte is 911 tokens of these.
        for step in [3, 1_000, 1, 2_000, 12, 1_500] {
            let tokens = Tokens(geometry: description.geometry, seed: 5, count: count + step)
            try session.append(tokens, count..<count + step)
            for begin in stride(from: count, to: count + step, by: 300) {
                try other.append(tokens, begin..<min(begin + 300, count + step))
            }
            count += step
            try SessionChecks(tokens: tokens).check(session, "after \(count) tokens")
            for layer in 0..<description.geometry.layers {
                #expect(try session.copyView(layer: layer).positions == other.copyView(layer: layer).positions)
            }
        }
        #expect(try client.metrics().contains("lagkvd_errors_total") == false, "nothing was refused on the way")
    }

    @Test("a suspended session comes back on another connection, and after a stop and a kill of the daemon")
    func resume() throws {
        let description = try describe()
        let tokens = Tokens(geometry: description.geometry, seed: 3, count: 300)
        let session = try client.create(SessionName("a"), description)
        try session.append(tokens, 0..<300)
        let row = try session.suspend()
        #expect(row.state == .suspended && row.residentBytes == 0 && row.durableTokens == 300)
        try SessionChecks(tokens: tokens).check(client.open(SessionName("a")), "resumed")

        #expect(daemon.stop() == 0)
        try daemon.start()
        try SessionChecks(tokens: tokens).check(LagKVClient.connect(path: daemon.socket).open(SessionName("a")), "after a stop")

        daemon.kill()
        try daemon.start()
        let again = try LagKVClient.connect(path: daemon.socket).open(SessionName("a"), write: true, fingerprint: "test")
        try SessionChecks(tokens: tokens).check(again, "after a kill")
        let more = Tokens(geometry: description.geometry, seed: 3, count: 420)
        try again.append(more, 300..<420, durable: true)
        daemon.kill()
        try daemon.start()
        let durable = try LagKVClient.connect(path: daemon.socket).open(SessionName("a"))
        let kept = try durable.tokens
        // Sealed chunks were promised; the window was not.
        #expect(kept >= description.policy.firstPosition(ofChunk: description.policy.sealedChunks(tokens: 420)))
        try SessionChecks(tokens: Tokens(geometry: description.geometry, seed: 3, count: kept)).check(
            durable, "after the second kill")
    }

    @Test("steps that complete no chunk are seen by readers without a message")
    func publish() throws {
        let description = try describe()
        let tokens = Tokens(geometry: description.geometry, seed: 5, count: 35)
        let writer = try client.create(SessionName("a"), description)
        let other = try LagKVClient.connect(path: daemon.socket)
        let reader = try other.open(SessionName("a"))
        for step in 0..<35 {
            try writer.append(tokens, step..<step + 1)
            #expect(try reader.tokens == step + 1)
            #expect(try other.show(SessionName("a")).sealedChunks == 0)
        }
        try SessionChecks(tokens: tokens).check(reader, "read beside the writer")
    }

    @Test("an engine writes in place")
    func inPlace() throws {
        let description = try describe()
        let geometry = description.geometry
        let tokens = Tokens(geometry: geometry, seed: 11, count: 120)
        let session = try client.create(SessionName("a"), description)
        for token in 0..<120 {
            if try session.granted == 0 { try session.askForRoom() }
            for layer in 0..<geometry.layers {
                for head in 0..<geometry.heads {
                    try session.withWindow(layer: layer, head: head, tokens: 1) { keys, values in
                        for (index, byte) in tokens.key(layer: layer, head: head, token: token).enumerated() {
                            keys.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
                        }
                        for (index, byte) in tokens.value(layer: layer, head: head, token: token).enumerated() {
                            values.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
                        }
                    }
                }
            }
            try session.write(ids: tokens.ids(token..<token + 1)[...])
            try session.commit(tokens: token + 1)
        }
        try SessionChecks(tokens: tokens).check(session, "written in place")
    }

    @Test("summaries are the least and the greatest key of each channel")
    func summaries() throws {
        let description = try describe(.float32, layers: 1, heads: 1, keyDim: 3, valueDim: 1, sink: 1, lag: 4, keepRatio: 0.5)
        let session = try client.create(SessionName("a"), description)
        var keys: [Float] = []
        for token in 0..<13 { keys += [Float(token), -Float(token), token % 2 == 0 ? 1 : .nan] }
        let values = [Float](repeating: 0, count: 13)
        try session.append(keys: keys.span.bytes, values: values.span.bytes, count: 13)
        let summaries = try session.summaries(layer: 0)
        #expect(summaries.count == 2)
        // Chunks 1...4 and 5...8; NaN is left out.
        #expect(floats(summaries.lowest) == [1, -4, 1, 5, -8, 1])
        #expect(floats(summaries.highest) == [4, -1, 1, 8, -5, 1])
    }

    private func floats(_ bytes: [UInt8]) -> [Float] { bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }

    @Test("recalled chunks join the view until they are released")
    func recall() throws {
        let description = try describe(uncompressed: [1])
        let session = try client.create(SessionName("a"), description)
        var checks = SessionChecks(tokens: Tokens(geometry: description.geometry, seed: 2, count: 200))
        try session.append(checks.tokens, 0..<200)
        try session.recall(layer: 0, chunks: [[3, 0], [5, 7]])
        checks.recalled[0] = [[3, 0], [5, 7]]
        try checks.check(session, "recalled")
        try session.recall(layer: 0, chunks: [[1], [0]])
        checks.recalled[0] = [[3, 0, 1], [5, 7, 0]]
        try checks.check(session, "recalled more")
        #expect(refusal { try session.recall(layer: 0, chunks: [[3], [6]]) } == .alreadyRecalled)
        #expect(refusal { try session.recall(layer: 0, chunks: [[2], [11]]) } == .notSealed)
        #expect(refusal { try session.recall(layer: 1, chunks: [[2], [2]]) } == .nothingEvicted)
        try checks.check(session, "a refusal changed nothing")
        try session.release()
        checks.recalled = [:]
        try checks.check(session, "released")
    }

    @Test("a fork and a truncated session are what they would be had only those tokens been appended")
    func forkAndTruncate() throws {
        let description = try describe()
        let session = try client.create(SessionName("a"), description)
        let tokens = Tokens(geometry: description.geometry, seed: 9, count: 300)
        try session.append(tokens, 0..<300)
        for length in [300, 299, 200, 180, 35, 4, 0] {
            let short = SessionChecks(tokens: Tokens(geometry: description.geometry, seed: 9, count: length))
            let name = try SessionName("fork-\(length)")
            #expect(try session.fork(as: name, tokens: length).tokens == length)
            let fork = try client.open(name, write: true)
            try short.check(fork, "fork of \(length)")
            try session.truncate(to: length)
            try short.check(session, "truncated to \(length)")
            let twin = try client.create(SessionName("twin-\(length)"), description)
            try twin.append(tokens, 0..<length)
            for layer in 0..<description.geometry.layers {
                #expect(try twin.copyView(layer: layer) == session.copyView(layer: layer), "\(length) tokens")
                #expect(try twin.copyView(layer: layer) == fork.copyView(layer: layer), "\(length) tokens")
            }
        }
    }

    @Test("requests that make no sense get the code that says so")
    func refusals() throws {
        let name = try SessionName("a")
        let description = try describe(capacity: 100)
        let session = try client.create(name, description)
        let tokens = Tokens(geometry: description.geometry, seed: 1, count: 101)
        let other = try LagKVClient.connect(path: daemon.socket)
        #expect(refusal { try client.create(name, description) } == .alreadyExists)
        #expect(refusal { try client.open(SessionName("b")) } == .notFound)
        #expect(refusal { try other.open(name, write: true) } == .writerBusy)
        #expect(refusal { try other.open(name, fingerprint: "another") } == .mismatch)
        #expect(refusal { try other.suspend(name) } == .sessionBusy)
        #expect(refusal { try other.delete(name) } == .sessionBusy)
        #expect(refusal { try session.append(tokens, 0..<101) } == .beyondCapacity)
        #expect(refusal { try session.truncate(to: 1) } == .badTokenCount)
        #expect(refusal { try session.full(layer: 2) } != nil)
        #expect(
            refusal { try session.append(keys: [UInt8](repeating: 0, count: 3).span.bytes, values: RawSpan(), count: 1) }
                == .badRequest)
        let reader = try other.open(name)
        #expect(refusal { try reader.append(tokens, 0..<1) } == .notWriter)
        #expect(refusal { try reader.truncate(to: 0) } == .notWriter)
        try session.suspend()
        #expect(refusal { try reader.view(layer: 0) } == .badHandle)
        #expect(refusal { try reader.sync() } == .badHandle)
        #expect(refusal { try session.append(tokens, 0..<1) } == .badHandle)
    }

    @Test("sessions are listed page by page, renamed and deleted")
    func directory() throws {
        let description = try describe(layers: 1, heads: 1)
        let names = try (0..<Limits.rowsPerPage + 5).map { try SessionName("s\(1_000 + $0)") }
        for name in names { try client.create(name, description).close() }
        #expect(try client.sessions().map(\.name) == names)
        try client.rename(names[0], to: SessionName("zz"))
        try client.delete(names[1])
        #expect(try client.sessions().map(\.name) == names[2...] + [SessionName("zz")])
    }

    @Test("a connection that is killed leaves the session as of its last commit, and the lease free")
    func lostWriter() throws {
        let description = try describe()
        let tokens = Tokens(geometry: description.geometry, seed: 4, count: 90)
        do {
            let connection = try LagKVClient.connect(path: daemon.socket)
            let session = try connection.create(SessionName("a"), description)
            try session.append(tokens, 0..<90)
            // Both go here without a word; the socket closes.
        }
        let session = try client.open(SessionName("a"), write: true)
        try SessionChecks(tokens: tokens).check(session, "after the writer was gone")
    }

    @Test("nobody is there")
    func unreachable() {
        #expect(throws: ClientError.self) { try LagKVClient.connect(path: "/nonexistent/socket") }
    }

    /// The code with which something is refused; nil if it is not.
    private func refusal<Value>(_ body: () throws -> Value) -> ErrorCode? {
        do {
            _ = try body()
            return nil
        } catch let error as ClientError {
            return error.code
        } catch {
            return nil
        }
    }
}
