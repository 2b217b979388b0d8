import CacheModel
import LagKV
import Testing

/// One head in memory as the daemon keeps it: rows arrive, chunks are sealed as soon as they may be, and what is evicted is
/// gone. It can therefore only be right if sealing needs nothing but the window.
struct CompressedHead {
    var policy: Policy
    /// Kept rows and the window, and where in the session each was.
    var resident: Head
    var positions: [Int] = []
    var tokens = 0
    var sealed = 0

    mutating func append(_ rows: Range<Int>, of source: Head) {
        resident.keys += source.keys[source.keys(rows)]
        resident.values += source.values[source.values(rows)]
        positions += rows
        tokens += rows.count
        while sealed < policy.sealedChunks(tokens: tokens) { seal() }
    }

    private mutating func seal() {
        // The first token of the oldest unsealed chunk is the first that is not sink or kept.
        let first = policy.sink + sealed * policy.keptPerChunk
        let window = Head(
            element: resident.element, keyDim: resident.keyDim, valueDim: resident.valueDim,
            keys: Array(resident.keys[resident.keys(first..<positions.count)]),
            values: Array(resident.values[resident.values(first..<positions.count)]))
        let withoutSink = try! Policy(sink: 0, lag: policy.lag, keepRatio: policy.keepRatio, valueWeight: policy.valueWeight)
        let kept = Set(window.seal(0, policy: withoutSink).kept.map { first + Int($0) })
        for row in (first..<first + policy.lag).reversed() where !kept.contains(row) {
            resident.keys.removeSubrange(resident.keys(row..<row + 1))
            resident.values.removeSubrange(resident.values(row..<row + 1))
            positions.remove(at: row)
        }
        sealed += 1
    }
}

@Suite("Path independence")
struct PathIndependenceTests {
    let seed = runSeed

    @Test("any split of the same tokens into appends keeps the same tokens, bit for bit")
    func anySplitKeepsTheSame() throws {
        var shapes = Shapes(seed: seed)
        for _ in 0..<30 {
            let policy = try Policy(
                sink: .random(in: 0...20, using: &shapes.random), lag: .random(in: 2...40, using: &shapes.random),
                keepRatio: .random(in: 0.05...1, using: &shapes.random))
            let tokens = Int.random(in: 1...400, using: &shapes.random)
            let source = shapes.head(
                shapes.pick(ElementType.allCases), keyDim: shapes.pick([3, 16, 40]), valueDim: shapes.pick([1, 32, 33]),
                tokens: tokens)
            let empty = CompressedHead(
                policy: policy,
                resident: Head(element: source.element, keyDim: source.keyDim, valueDim: source.valueDim, keys: [], values: []))

            var atOnce = empty
            atOnce.append(0..<tokens, of: source)
            var inParts = empty
            let largest = shapes.pick([1, 7, 60, 400])
            while inParts.tokens < tokens {
                let count = min(Int.random(in: 1...largest, using: &shapes.random), tokens - inParts.tokens)
                inParts.append(inParts.tokens..<inParts.tokens + count, of: source)
            }

            let context: Comment = "seed \(seed), \(policy), \(tokens) tokens"
            #expect(inParts.positions == atOnce.positions, context)
            #expect(inParts.resident.keys == atOnce.resident.keys && inParts.resident.values == atOnce.resident.values, context)
            #expect(atOnce.positions.count == policy.residentTokens(tokens: tokens, layer: 0), context)
            // And each chunk's kept tokens are what it keeps when all tokens are still there.
            for chunk in 0..<atOnce.sealed {
                let first = policy.firstPosition(ofChunk: chunk)
                let kept = source.seal(chunk, policy: policy).kept.map { first + Int($0) }
                #expect(atOnce.positions.filter { (first..<first + policy.lag).contains($0) } == kept, context)
            }
        }
    }
}
