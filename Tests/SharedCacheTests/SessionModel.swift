import CacheLoop
import CacheModel
import LagKV
import LinuxKit
@testable import SharedCache

/// What a session must be: a name, and tokens in a row. Everything else about it follows.
@CacheLoop
final class SessionModel {
    let description: SessionDescription
    let owner: UInt32
    var name: SessionName
    /// Committed or published.
    private(set) var tokens: [Token]
    /// What a commit under way will add.
    var claimed: [Token] = []
    /// What it was before each truncation: a full view that was asked for earlier may still show it.
    private(set) var past: [[Token]] = []
    /// What a crash must leave at least.
    var durable = 0
    /// Recalled positions, per layer and head, leftmost first.
    var recalled: [[[Int]]] = []
    /// Who holds the lease.
    var writer: HeldSession?
    /// The control file of the last attachment, while somebody still has it.
    weak var control: GrantedFile?
    /// The length that a truncation under way will leave.
    var shortening: Int?
    /// Forks and truncations under way, which must not meet: the fork's content would be anybody's guess.
    var changesUnderWay = 0
    private var keptByChunk: [Int: (tokens: [UInt64], kept: [[[Int]]])] = [:]

    init(_ description: SessionDescription, owner: UInt32, name: SessionName, tokens: [Token] = []) {
        self.description = description
        self.owner = owner
        self.name = name
        self.tokens = tokens
        forgetRecalled()
    }

    var geometry: Geometry { description.geometry }
    var policy: Policy { description.policy }
    /// What readers may see while a commit is under way.
    var visible: [Token] { tokens + claimed }

    func append(_ new: [Token]) { tokens += new }

    func truncate(to count: Int) {
        past.append(tokens)
        tokens.removeLast(tokens.count - count)
        durable = min(durable, count)
        forgetRecalled()
    }

    /// Takes the length at which it came back after a crash.
    func recover(at count: Int) {
        tokens = Array(visible.prefix(count))
        claimed = []
        durable = count
        writer = nil
        control = nil
        changesUnderWay = 0
        shortening = nil
        forgetRecalled()
    }

    func forgetRecalled() {
        recalled = Array(repeating: Array(repeating: [], count: geometry.heads), count: geometry.layers)
    }

    // MARK: What LagKV keeps

    /// Sealed chunks at a length, counted one by one: chunk k is sealed when chunk k + 1 is complete.
    func sealedChunks(at count: Int) -> Int {
        var sealed = 0
        while policy.sink + (sealed + 2) * policy.lag <= count { sealed += 1 }
        return sealed
    }

    /// Positions of the hot view of one head, recalled ones left out.
    func positions(layer: Int, head: Int, count: Int) -> [Int] {
        let sealed = sealedChunks(at: count)
        guard sealed > 0, policy.isCompressed(layer: layer) else { return Array(0..<count) }
        let kept = (0..<sealed).flatMap { self.kept(chunk: $0)[layer][head] }
        return Array(0..<policy.sink) + kept + Array(policy.sink + sealed * policy.lag..<count)
    }

    func evicted(chunk: Int, layer: Int, head: Int) -> [Int] {
        let kept = Set(kept(chunk: chunk)[layer][head])
        let first = policy.sink + chunk * policy.lag
        return (first..<first + policy.lag).filter { !kept.contains($0) }
    }

    /// Positions that stay of a sealed chunk, by layer and head: a function of its tokens and the next chunk's, and of nothing else.
    func kept(chunk: Int) -> [[[Int]]] {
        let first = policy.sink + chunk * policy.lag
        let both = visible[first..<first + 2 * policy.lag]
        let numbers = both.map(\.number)
        if let known = keptByChunk[chunk], known.tokens == numbers { return known.kept }
        var scorer = ChunkScorer(geometry: geometry, policy: policy)
        let kept = (0..<geometry.layers).map { layer in
            (0..<geometry.heads).map { head -> [Int] in
                guard policy.isCompressed(layer: layer) else { return Array(first..<first + policy.lag) }
                return choose(from: Array(both), layer: layer, head: head, &scorer).map { first + $0 }
            }
        }
        keptByChunk[chunk] = (numbers, kept)
        return kept
    }

    private func choose(from both: [Token], layer: Int, head: Int, _ scorer: inout ChunkScorer) -> [Int] {
        let (chunk, next) = (both.prefix(policy.lag), both.suffix(policy.lag))
        let keys = chunk.flatMap { $0.key(layer: layer, head: head) }
        let values = chunk.flatMap { $0.value(layer: layer, head: head) }
        let nextKeys = next.flatMap { $0.key(layer: layer, head: head) }
        let nextValues = next.flatMap { $0.value(layer: layer, head: head) }
        var kept = [UInt32](repeating: 0, count: policy.keptPerChunk)
        var lo = [UInt8](repeating: 0, count: geometry.keyBytes)
        var hi = lo
        var keptSpan = kept.mutableSpan
        var loSpan = lo.mutableSpan
        var hiSpan = hi.mutableSpan
        var loBytes = loSpan.mutableBytes
        var hiBytes = hiSpan.mutableBytes
        _ = scorer.select(
            keys: keys.span.bytes, values: values.span.bytes, nextKeys: nextKeys.span.bytes, nextValues: nextValues.span.bytes,
            kept: &keptSpan, lo: &loBytes, hi: &hiBytes)
        return kept.map(Int.init)
    }

    /// The bounds of a chunk's keys in one head.
    func bounds(chunk: Int, layer: Int, head: Int) -> (lo: [Float], hi: [Float]) {
        let first = policy.sink + chunk * policy.lag
        let keys = visible[first..<first + policy.lag].flatMap { $0.key(layer: layer, head: head) }
        return Reference.bounds(of: geometry.element.floats(keys), dim: geometry.keyDim)
    }
}
