import CacheModel
import LagKVClient
import Testing

/// What must hold of every session at every moment.
struct SessionChecks {
    let tokens: Tokens
    /// Chunks recalled, by layer and head.
    var recalled: [Int: [[Int]]] = [:]

    /// The full view is what was appended, the hot view is its gather, and both have the lengths that the policy says.
    func check(_ session: Session, _ comment: Comment, location: SourceLocation = #_sourceLocation) throws {
        let policy = session.description.policy
        #expect(try session.tokens == tokens.count, comment, sourceLocation: location)
        #expect(try session.sealedChunks == policy.sealedChunks(tokens: tokens.count), comment, sourceLocation: location)
        let expected = (keys: tokens.keys(0..<tokens.count), values: tokens.values(0..<tokens.count))
        for layer in 0..<tokens.geometry.layers {
            try checkFull(session, layer, expected, comment, location)
            try checkView(session, layer, expected, comment, location)
        }
    }

    /// [layers, heads, tokens, dim].
    private typealias Expected = (keys: [UInt8], values: [UInt8])

    /// Bytes of tokens `range` of one head.
    private func part(_ bytes: [UInt8], layer: Int, head: Int, _ range: Range<Int>, rowBytes: Int) -> ArraySlice<UInt8> {
        let first = (layer * tokens.geometry.heads + head) * tokens.count
        return bytes[(first + range.lowerBound) * rowBytes..<(first + range.upperBound) * rowBytes]
    }

    private func checkFull(
        _ session: Session, _ layer: Int, _ expected: Expected, _ comment: Comment, _ location: SourceLocation
    ) throws {
        let geometry = tokens.geometry
        let full = try session.full(layer: layer)
        try #require(full.tokens == tokens.count, comment, sourceLocation: location)
        for head in 0..<tokens.geometry.heads {
            let all = 0..<tokens.count
            let keys = part(expected.keys, layer: layer, head: head, all, rowBytes: geometry.keyBytes)
            let values = part(expected.values, layer: layer, head: head, all, rowBytes: geometry.valueBytes)
            #expect(full.keys(head: head).withUnsafeBytes { $0.elementsEqual(keys) }, comment, sourceLocation: location)
            #expect(full.values(head: head).withUnsafeBytes { $0.elementsEqual(values) }, comment, sourceLocation: location)
        }
        let ids = full.ids.withUnsafeBufferPointer { Array($0) }
        #expect(ids == tokens.ids(0..<tokens.count), comment, sourceLocation: location)
    }

    private func checkView(
        _ session: Session, _ layer: Int, _ expected: Expected, _ comment: Comment, _ location: SourceLocation
    ) throws {
        let policy = session.description.policy
        let geometry = tokens.geometry
        let view = try session.copyView(layer: layer)
        let chunks = recalled[layer] ?? Array(repeating: [], count: geometry.heads)
        let resident = policy.residentTokens(tokens: tokens.count, layer: layer)
        let extra = chunks[0].count * policy.evicted(inLayer: layer)
        try #require(view.count == resident + extra, comment, sourceLocation: location)
        for head in 0..<geometry.heads {
            let positions = view.positions[head * view.count..<(head + 1) * view.count].map { Int($0) }
            let hot = Array(positions[extra...])
            #expect(hot == hot.sorted(), comment, sourceLocation: location)
            #expect(Set(positions).count == view.count, comment, sourceLocation: location)
            try #require(positions.allSatisfy { (0..<tokens.count).contains($0) }, comment, sourceLocation: location)
            for (row, position) in positions.enumerated() {
                let index = head * view.count + row
                let key = view.keys[index * geometry.keyBytes..<(index + 1) * geometry.keyBytes]
                let value = view.values[index * geometry.valueBytes..<(index + 1) * geometry.valueBytes]
                let token = position..<position + 1
                guard key == part(expected.keys, layer: layer, head: head, token, rowBytes: geometry.keyBytes),
                    value == part(expected.values, layer: layer, head: head, token, rowBytes: geometry.valueBytes)
                else {
                    Issue.record(
                        "row \(row) of head \(head), layer \(layer) is not token \(position); \(comment)",
                        sourceLocation: location)
                    return
                }
            }
            checkRecalled(Set(positions), chunks[head], policy, comment, location)
        }
    }

    /// A recalled chunk is in the view whole.
    private func checkRecalled(
        _ positions: Set<Int>, _ chunks: [Int], _ policy: Policy, _ comment: Comment, _ location: SourceLocation
    ) {
        for chunk in chunks {
            let first = policy.firstPosition(ofChunk: chunk)
            #expect(positions.isSuperset(of: first..<first + policy.lag), comment, sourceLocation: location)
        }
    }
}
