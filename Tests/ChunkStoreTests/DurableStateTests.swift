import CacheModel
import ChunkStore
import Testing

@Suite("a directory's names are its index")
struct DurableStateTests {
    /// A session's history on disk: objects appear in order of their numbers, stale names vanish later or, after a crash, never.
    private struct History {
        let policy: Policy
        var names: [ObjectName] = []
        var sealed: [ObjectName] = []
        var window: ObjectName?
        var tokens = 0
        var next: UInt64 = 1

        mutating func takeSequence() -> UInt64 {
            defer { next += 1 }
            return next
        }

        mutating func seal() {
            let name = ObjectName.chunk(sealed.count, sequence: takeSequence())
            names.append(name)
            sealed.append(name)
            tokens = max(tokens, policy.firstPosition(ofChunk: sealed.count))
        }

        /// A suspend keeps all sealed chunks, a truncation goes back.
        mutating func writeWindow(after chunks: Int, holding count: Int) {
            sealed.removeLast(sealed.count - chunks)
            tokens = (chunks == 0 ? 0 : policy.firstPosition(ofChunk: chunks)) + count
            let name = ObjectName.window(sealedChunks: chunks, tokens: tokens, sequence: takeSequence())
            names.append(name)
            window = name
        }
    }

    @Test("whatever stale names a crash leaves, a listing in any order tells the last durable state")
    func randomHistories() throws {
        let policy = try Policy(sink: 16, lag: 128, keepRatio: 0.25)
        for seed in 0..<2_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var history = History(policy: policy)
            for _ in 0..<Int.random(in: 0...20, using: &generator) {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0...1: history.seal()
                case 2: history.writeWindow(after: history.sealed.count, holding: .random(in: 0..<256, using: &generator))
                default:
                    let chunks = Int.random(in: 0...history.sealed.count, using: &generator)
                    history.writeWindow(after: chunks, holding: .random(in: 0..<256, using: &generator))
                }
                let (state, stale) = DurableState.read(history.names.shuffled(using: &generator))
                #expect(state.chunks == history.sealed, "seed \(seed)")
                #expect(state.window == history.window, "seed \(seed)")
                #expect(state.tokens(policy) == history.tokens, "seed \(seed)")
                #expect(!state.isBroken, "seed \(seed)")
                #expect(
                    Set(stale) == Set(history.names).subtracting(history.sealed).subtracting([history.window].compactMap(\.self)))
                // Some of the stale names are removed; the next number stays above all that are left and in use.
                history.names.removeAll { stale.contains($0) && Bool.random(using: &generator) }
                #expect(state.nextSequence <= history.next, "seed \(seed)")
                #expect(history.names.allSatisfy { $0.sequence < state.nextSequence }, "seed \(seed)")
            }
        }
    }

    @Test("a chunk that is missing below the window is damage, not a shorter session")
    func missingChunk() {
        let names: [ObjectName] = [
            .chunk(0, sequence: 1), .chunk(2, sequence: 3), .window(sealedChunks: 3, tokens: 500, sequence: 4),
        ]
        #expect(DurableState.read(names).state.isBroken)
    }

    @Test("a name is read back as it was written, and other names are none")
    func names() {
        let names: [ObjectName] = [
            .chunk(0, sequence: 1), .chunk(1_234_567, sequence: .max >> 1),
            .window(sealedChunks: 12, tokens: 1_740, sequence: 35),
        ]
        for name in names { #expect(ObjectName(name.text) == name) }
        #expect(ObjectName.chunk(12, sequence: 34).text == "chunk-000012-34")
        for text in [
            "", "manifest", "chunk", "chunk-1", "chunk-1-2-3", "window-1-2", "chunk--1-2", "chunk-1-18446744073709551616",
            "chunk-a-1",
            "chunk-1-2-", "Chunk-1-2", "window-1-2-3.tmp", "chunk-12-34", "chunk-000012-034", "chunk-000012-+34",
        ] { #expect(ObjectName(text) == nil, "\(text)") }
    }
}
