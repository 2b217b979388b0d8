public import CacheModel

/// What of a session is on disk, as its directory's names say.
///
/// Invariant: chunk objects 0 ..< `chunks.count` are current, and every token below `tokens` can be read from them or from
/// the window object.
///
/// The rule that makes a listing enough: the window with the highest number speaks of the session as it was when that
/// window was written, a truncation included. Chunks below its `sealedChunks` were sealed before it; chunks from there on
/// count only if they are newer, for older ones are from before a truncation. Of two objects of one chunk the newer counts.
///
/// Example: chunk-0-1, chunk-1-2, chunk-2-3, then a truncation into chunk 2 writes window-1-300-4 (chunk 1 lost its reference
/// chunk). A crash before the stale names are removed leaves all five; the rule sees chunk 0 and the window: 300 tokens.
public struct DurableState: Sendable, Hashable {
    /// The object of each chunk.
    public var chunks: [ObjectName] = []
    public var window: ObjectName?
    /// Above every number in use.
    public var nextSequence: UInt64 = 1

    public init() {}

    /// - Returns: the state, and the names that no longer count.
    public static func read(_ names: [ObjectName]) -> (state: DurableState, stale: [ObjectName]) {
        var state = DurableState()
        var newest: [Int: ObjectName] = [:]
        for case .window(let sealed, let tokens, let sequence) in names where sequence > state.window?.sequence ?? 0 {
            state.window = .window(sealedChunks: sealed, tokens: tokens, sequence: sequence)
        }
        for case .chunk(let chunk, let sequence) in names where state.admits(chunk: chunk, sequence: sequence) {
            if sequence > newest[chunk]?.sequence ?? 0 { newest[chunk] = .chunk(chunk, sequence: sequence) }
        }
        while let next = newest[state.chunks.count] { state.chunks.append(next) }
        state.nextSequence = 1 + (names.map(\.sequence).max() ?? 0)
        let current = Set(state.chunks + [state.window].compactMap(\.self))
        return (state, names.filter { !current.contains($0) })
    }

    private func admits(chunk: Int, sequence: UInt64) -> Bool {
        guard case .window(let sealed, _, let written) = window else { return true }
        return chunk < sealed || sequence > written
    }

    /// Tokens that the chunk objects cover from the beginning.
    public func chunkTokens(_ policy: Policy) -> Int { chunks.isEmpty ? 0 : policy.firstPosition(ofChunk: chunks.count) }

    /// Tokens that can be read back.
    public func tokens(_ policy: Policy) -> Int { max(chunkTokens(policy), windowTokens(policy).upperBound) }

    /// The tokens in the window object; empty when there is none.
    public func windowTokens(_ policy: Policy) -> Range<Int> {
        guard case .window(let sealed, let tokens, _) = window else { return 0..<0 }
        let first = sealed == 0 ? 0 : policy.firstPosition(ofChunk: sealed)
        // A name that contradicts itself, or a chunk that is missing below the window, leaves nothing to be read from it.
        return first <= tokens && sealed <= chunks.count ? first..<tokens : 0..<0
    }

    /// Whether a chunk that the window stands on is missing: bytes were removed behind the daemon's back.
    public var isBroken: Bool {
        guard case .window(let sealed, _, _) = window else { return false }
        return sealed > chunks.count
    }
}
