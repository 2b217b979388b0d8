public import CacheModel

/// Scores chunks of one session, head by head, and says which tokens stay. `Reference` shows what it computes.
///
/// It owns the scratch memory that takes, about 8 bytes a token of a chunk, so that a chunk costs no allocation. One for each
/// piece of work that runs at a time; making one costs a microsecond.
public struct ChunkScorer: ~Copyable {
    private let kernels: Kernels
    private let geometry: Geometry
    private let lag: Int
    private let valueWeight: Float

    /// σ of the keys, then the scores.
    private var scratch: [Float]
    private var valueDeviations: [Float]
    /// The bounds of the values of the reference chunk.
    private var valueLo: [UInt8]
    private var valueHi: [UInt8]

    public init(geometry: Geometry, policy: Policy, kernels: Kernels = .best) {
        self.kernels = kernels
        self.geometry = geometry
        lag = policy.lag
        // Beyond 10³⁰ the keys' score has long vanished in rounding; so that the product stays finite.
        valueWeight = Float(min(policy.valueWeight, 1e30))
        scratch = Array(repeating: 0, count: Kernels.padded(policy.lag))
        valueDeviations = scratch
        valueLo = Array(repeating: 0, count: geometry.valueBytes)
        valueHi = valueLo
    }

    /// The scores of the chunk that was seen last, one a token. An abnormal token's is +∞.
    public var scores: Span<Float> {
        @_lifetime(borrow self) get { scratch.span.extracting(first: lag) }
    }

    /// Scores one head of chunk p by chunk p+1 and writes the offsets (0 ..< L, ascending) of the tokens that stay.
    ///
    /// A token with a value that is not finite, in its key or its value, or whose σ f32 cannot hold, is *abnormal*: it is
    /// outside the softmax and stays before any other.
    ///
    /// - Parameters:
    ///   - keys, values: chunk p, `[L, keyDim]` and `[L, valueDim]`, each contiguous.
    ///   - nextKeys, nextValues: chunk p+1, likewise.
    ///   - kept: how many stay is its length: `policy.kept(inLayer:)`.
    ///   - lo, hi: takes the bounds of `nextKeys`, `keyDim` elements each: chunk p+1's summary. (Chunk 0 is nobody's
    ///     reference: its summary is `Kernels.bounds` of its keys.)
    /// - Returns: how many tokens are abnormal.
    public mutating func select(
        keys: RawSpan, values: RawSpan, nextKeys: RawSpan, nextValues: RawSpan, kept: inout MutableSpan<UInt32>,
        lo: inout MutableRawSpan, hi: inout MutableRawSpan
    ) -> Int {
        let abnormal = score(keys: keys, values: values, nextKeys: nextKeys, nextValues: nextValues, lo: &lo, hi: &hi)
        kernels.select(highestOf: scores, into: &kept)
        return abnormal
    }

    /// The first half of `select`: leaves `scores`.
    public mutating func score(
        keys: RawSpan, values: RawSpan, nextKeys: RawSpan, nextValues: RawSpan, lo: inout MutableRawSpan, hi: inout MutableRawSpan
    ) -> Int {
        precondition(keys.byteCount == lag * geometry.keyBytes && nextKeys.byteCount == keys.byteCount, "a chunk's keys")
        precondition(
            values.byteCount == lag * geometry.valueBytes && nextValues.byteCount == values.byteCount, "a chunk's values")
        let element = geometry.element

        // While the keys are scored, the next values come into the cache: reading memory and computing overlap.
        kernels.bounds(of: nextKeys, dim: geometry.keyDim, element: element, lo: &lo, hi: &hi)
        kernels.deviations(
            of: keys, dim: geometry.keyDim, element: element, lo: lo.bytes, hi: hi.bytes, ahead: nextValues, into: &scratch)

        Self.scale(
            values, by: nextValues, dim: geometry.valueDim, element: element, lo: &valueLo, hi: &valueHi, into: &valueDeviations,
            with: kernels)

        return kernels.scores(keys: &scratch, values: &valueDeviations, tokens: lag, valueWeight: valueWeight)
    }

    /// The values' bounds are nobody's summary: they stay in the scratch memory.
    private static func scale(
        _ rows: RawSpan, by reference: RawSpan, dim: Int, element: ElementType, lo: inout [UInt8], hi: inout [UInt8],
        into deviations: inout [Float], with kernels: Kernels
    ) {
        var loSpan = lo.mutableSpan
        var hiSpan = hi.mutableSpan
        var loBytes = loSpan.mutableBytes
        var hiBytes = hiSpan.mutableBytes
        kernels.bounds(of: reference, dim: dim, element: element, lo: &loBytes, hi: &hiBytes)
        kernels.deviations(
            of: rows, dim: dim, element: element, lo: loBytes.bytes, hi: hiBytes.bytes, ahead: RawSpan(), into: &deviations)
    }
}
