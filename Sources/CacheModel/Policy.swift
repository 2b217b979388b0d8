/// What LagKV keeps: the sink `S`, the lag `L`, the keep ratio `r`, the value weight `α`, and the layers left alone.
///
/// Chunk k covers positions [S + kL, S + (k+1)L). It is sealed when chunk k+1 is complete.
public struct Policy: Sendable, Hashable {
    /// S: the first tokens, always kept.
    public let sink: Int
    /// L: tokens in a chunk.
    public let lag: Int
    /// r, 0 < r ≤ 1: the share of a sealed chunk that stays in memory. 1 turns compression off.
    public let keepRatio: Double
    /// α: the weight of the values' score beside the keys'.
    public let valueWeight: Double
    /// Layers that keep everything, ascending, each once.
    public let uncompressedLayers: [Int]

    /// - Throws: `limitExceeded` or `badRequest`, naming what was seen.
    public init(
        sink: Int, lag: Int, keepRatio: Double, valueWeight: Double = 1, uncompressedLayers: [Int] = []
    ) throws(CacheError) {
        try CacheError.check("sink", sink, in: 0...Limits.sink)
        try CacheError.check("lag", lag, in: Limits.smallestLag...Limits.lag)
        guard keepRatio > 0, keepRatio <= 1 else {
            throw CacheError(.limitExceeded, "keep ratio", seen: "\(keepRatio)", expected: "above 0, at most 1")
        }
        guard valueWeight.isFinite, valueWeight >= 0 else {
            throw CacheError(.limitExceeded, "value weight", seen: "\(valueWeight)", expected: "a finite number, 0 or more")
        }
        for (earlier, later) in zip(uncompressedLayers, uncompressedLayers.dropFirst()) where earlier >= later {
            throw CacheError(.badRequest, "uncompressed layers", seen: "\(earlier), \(later)", expected: "ascending, each once")
        }
        if let first = uncompressedLayers.first, let last = uncompressedLayers.last {
            try CacheError.check("uncompressed layer", first, in: 0...Limits.layers - 1)
            try CacheError.check("uncompressed layer", last, in: 0...Limits.layers - 1)
        }
        self.sink = sink
        self.lag = lag
        self.keepRatio = keepRatio
        self.valueWeight = valueWeight
        self.uncompressedLayers = uncompressedLayers
    }

    /// floor(r · L), in double precision as the reference implementation does it (e.g. 0.7 · 100 = 70.0 → 70).
    public var keptPerChunk: Int { Int(keepRatio * Double(lag)) }

    /// Tokens of a sealed chunk that stay in the memory of `layer`.
    public func kept(inLayer layer: Int) -> Int { isCompressed(layer: layer) ? keptPerChunk : lag }

    /// Tokens of a sealed chunk that leave the memory of `layer`.
    public func evicted(inLayer layer: Int) -> Int { lag - kept(inLayer: layer) }

    public func isCompressed(layer: Int) -> Bool { keepRatio < 1 && !uncompressedLayers.contains(layer) }

    /// Chunks that are sealed once `tokens` tokens are there: all complete chunks but the last, which is the reference
    /// of the one before it. With S = 16, L = 128: 271 tokens → 0, 272 → 1, 400 → 2.
    public func sealedChunks(tokens: Int) -> Int { max(0, (tokens - sink) / lag - 1) }

    /// The position of the first token of chunk `chunk`.
    public func firstPosition(ofChunk chunk: Int) -> Int { sink + chunk * lag }

    /// The position of the first unsealed token: the window begins there once a chunk is sealed, and at 0 before.
    public func firstUnsealed(tokens: Int) -> Int {
        let sealed = sealedChunks(tokens: tokens)
        return sealed == 0 ? 0 : firstPosition(ofChunk: sealed)
    }

    /// The least count above `tokens` at which one more chunk is sealed.
    public func nextSeal(after tokens: Int) -> Int { sink + (sealedChunks(tokens: tokens) + 2) * lag }

    /// Tokens of one head that are in memory in `layer` (the length of the hot view): sink, kept and window.
    public func residentTokens(tokens: Int, layer: Int) -> Int {
        tokens - sealedChunks(tokens: tokens) * evicted(inLayer: layer)
    }
}
