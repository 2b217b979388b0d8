public import CacheModel

/// Says which tokens of a chunk stay, for one session, a head at a time. `Reference` shows what it computes.
///
/// It owns the scratch memory that takes, about 8 bytes a token of a chunk, so that a head costs no allocation. Each piece of
/// work that runs at a time makes its own; that costs about a microsecond.
///
/// A layer that keeps everything needs no scorer: `Kernels.bounds` makes its summaries.
public struct ChunkScorer: ~Copyable {
    private let kernels: Kernels
    private let geometry: Geometry
    private let lag: Int
    private let valueWeight: Float

    /// σ of the keys, then the scores.
    private var keyDeviations: [Float]
    private var valueDeviations: [Float]
    /// The bounds of the values of the reference chunk. No summary holds them.
    private var valueLo: [UInt8]
    private var valueHi: [UInt8]

    public init(geometry: Geometry, policy: Policy, kernels: Kernels = .best) {
        self.kernels = kernels
        self.geometry = geometry
        lag = policy.lag
        // So that the product stays finite; the keys' score has long vanished in its rounding.
        valueWeight = Float(min(policy.valueWeight, 1e30))
        keyDeviations = Array(repeating: 0, count: Kernels.padded(policy.lag))
        valueDeviations = keyDeviations
        valueLo = Array(repeating: 0, count: geometry.valueBytes)
        valueHi = valueLo
    }

    /// The scores of the head that was seen last, one a token. An abnormal token's is +∞.
    public var scores: Span<Float> {
        @_lifetime(borrow self) get { keyDeviations.span.extracting(first: lag) }
    }

    /// Scores one head of chunk p by chunk p+1 and writes the offsets (0 ..< L, ascending) of the tokens that stay.
    ///
    /// A token with a value that is not finite, in its key or its value, or whose σ f32 cannot hold, is *abnormal*: no
    /// softmax sees it, and it stays before any other.
    ///
    /// Costs one read of all four. With 16-bit elements, and vectors of AVX2 or wider, a thread does this at half the speed at
    /// which it can read memory, given `ahead`.
    /// - Parameters:
    ///   - keys, values: chunk p, `[L, keyDim]` and `[L, valueDim]`, each contiguous, aligned to nothing.
    ///   - nextKeys, nextValues: chunk p+1, likewise.
    ///   - ahead: what is read after this, if known (the `nextKeys` of the next head): it comes into the cache meanwhile.
    ///   - kept: how many stay is its length: `policy.kept(inLayer:)`.
    ///   - lo, hi: takes the bounds of `nextKeys`, `keyDim` elements each: chunk p+1's summary. (Chunk 0 is nobody's
    ///     reference: its summary is `Kernels.bounds` of its keys.)
    /// - Returns: how many tokens are abnormal.
    public mutating func select(
        keys: RawSpan, values: RawSpan, nextKeys: RawSpan, nextValues: RawSpan, ahead: RawSpan = RawSpan(),
        kept: inout MutableSpan<UInt32>, lo: inout MutableRawSpan, hi: inout MutableRawSpan
    ) -> Int {
        precondition(keys.byteCount == lag * geometry.keyBytes, "the keys of a whole chunk")
        precondition(values.byteCount == lag * geometry.valueBytes, "the values of a whole chunk")
        precondition(nextKeys.byteCount == keys.byteCount && nextValues.byteCount == values.byteCount, "chunks are equal")

        // While one side is computed, what the next step reads comes into the cache.
        kernels.deviations(
            of: keys, by: nextKeys, dim: geometry.keyDim, element: geometry.element, lo: &lo, hi: &hi, ahead: nextValues,
            into: &keyDeviations)
        kernels.deviations(
            of: values, by: nextValues, dim: geometry.valueDim, element: geometry.element, lo: &valueLo, hi: &valueHi,
            ahead: ahead, into: &valueDeviations)
        let abnormal = kernels.scores(keys: &keyDeviations, values: &valueDeviations, tokens: lag, valueWeight: valueWeight)
        kernels.select(highestOf: scores, into: &kept)
        return abnormal
    }
}

extension Kernels {
    /// Writes σ of each of `rows`, scaled by the bounds of `reference`, to the front of `deviations`, and the bounds.
    fileprivate func deviations(
        of rows: RawSpan, by reference: RawSpan, dim: Int, element: ElementType, lo: inout MutableRawSpan,
        hi: inout MutableRawSpan, ahead: RawSpan, into deviations: inout [Float]
    ) {
        bounds(of: reference, dim: dim, element: element, lo: &lo, hi: &hi)
        self.deviations(
            of: rows, dim: dim, element: element, lo: lo.bytes, hi: hi.bytes, ahead: ahead, into: &deviations)
    }

    fileprivate func deviations(
        of rows: RawSpan, by reference: RawSpan, dim: Int, element: ElementType, lo: inout [UInt8], hi: inout [UInt8],
        ahead: RawSpan, into deviations: inout [Float]
    ) {
        var loSpan = lo.mutableSpan
        var hiSpan = hi.mutableSpan
        var loBytes = loSpan.mutableBytes
        var hiBytes = hiSpan.mutableBytes
        self.deviations(
            of: rows, by: reference, dim: dim, element: element, lo: &loBytes, hi: &hiBytes, ahead: ahead, into: &deviations)
    }
}
