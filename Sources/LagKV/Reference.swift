internal import Glibc

/// LagKV as the paper writes it (arXiv 2504.04704), in plain Swift and double precision: the documentation of the kernels,
/// and their judge in the tests.
///
/// | paper | here | is |
/// | --- | --- | --- |
/// | S, L, r | `Policy` | sink, lag, keep ratio |
/// | X ∈ {K, V} | `rows` | one head's keys or values of chunk p, `[L, dim]` |
/// | X of p+1 | `reference` | the same of the next chunk |
/// | min, max | `lo`, `hi` | of each channel c over the tokens of the reference |
/// | X̄ | `scaled` | x̂[t, c] = (X[t, c] − lo[c]) / (hi[c] − lo[c]) |
/// | Std | `deviation` | σ[t] over the channels of x̂[t, ·], unbiased (n − 1); of one channel 0 |
/// | Softmax | `softmax` | over the tokens of the chunk |
/// | score | `scores` | s_K[t] + α · s_V[t] |
/// | TopK | `kept` | the floor(r · L) tokens of the highest score, in temporal order |
///
/// What the paper leaves open: bounds are over finite values. A channel with hi = lo adds nothing (x̂ = 0), nor does one
/// whose hi − lo has no reciprocal in f32 (below 2⁻¹²⁸, above f32's greatest). A token with a value that is not finite is
/// abnormal, as is one whose σ² f32 cannot hold: no softmax sees it, and its score is +∞. A power below e⁻⁸⁷ counts as e⁻⁸⁷: f32
/// holds hardly a smaller one. Of equal scores the earlier wins.
public enum Reference {
    /// One score a token: of chunk p, by chunk p+1, for one head.
    public static func scores(
        keys: [Float], values: [Float], nextKeys: [Float], nextValues: [Float], keyDim: Int, valueDim: Int, valueWeight: Double
    ) -> [Double] {
        let keyDeviations = deviations(of: keys, reference: nextKeys, dim: keyDim)
        let valueDeviations = deviations(of: values, reference: nextValues, dim: valueDim)
        let normal = zip(keyDeviations, valueDeviations).map { isNormal($0) && isNormal($1) }
        let keyScores = softmax(keyDeviations, over: normal)
        let valueScores = softmax(valueDeviations, over: normal)
        return normal.indices.map { t in normal[t] ? keyScores[t] + valueWeight * valueScores[t] : .infinity }
    }

    /// The offsets of the `count` highest scores, ascending.
    public static func kept(_ count: Int, of scores: [Double]) -> [Int] {
        scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }.prefix(count).sorted()
    }

    /// lo and hi of each channel, over its finite values; 0 and 0 if it has none.
    public static func bounds(of rows: [Float], dim: Int) -> (lo: [Float], hi: [Float]) {
        let channels = (0..<dim).map { c in stride(from: c, to: rows.count, by: dim).map { rows[$0] }.filter(\.isFinite) }
        return (channels.map { $0.min() ?? 0 }, channels.map { $0.max() ?? 0 })
    }

    /// σ[t] of each token of `rows`.
    public static func deviations(of rows: [Float], reference: [Float], dim: Int) -> [Double] {
        let (lo, hi) = bounds(of: reference, dim: dim)
        return stride(from: 0, to: rows.count, by: dim).map { row in
            deviation((0..<dim).map { c in scaled(rows[row + c], lo: lo[c], hi: hi[c]) })
        }
    }

    private static func scaled(_ x: Float, lo: Float, hi: Float) -> Double {
        guard x.isFinite else { return .nan }
        let inverse = 1 / (hi - lo)
        guard inverse > 0, inverse.isFinite else { return 0 }
        return (Double(x) - Double(lo)) / (Double(hi) - Double(lo))
    }

    private static func deviation(_ x: [Double]) -> Double {
        guard x.allSatisfy(\.isFinite) else { return .nan }
        guard x.count > 1 else { return 0 }
        let mean = x.reduce(0, +) / Double(x.count)
        return (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count - 1)).squareRoot()
    }

    private static func isNormal(_ deviation: Double) -> Bool { Float(deviation * deviation).isFinite }

    private static func softmax(_ x: [Double], over included: [Bool]) -> [Double] {
        let largest = zip(x, included).reduce(0) { $1.1 ? max($0, $1.0) : $0 }
        let powers = zip(x, included).map { $1 ? exp(max($0 - largest, -87)) : 0 }
        let total = powers.reduce(0, +)
        return powers.map { $0 / total }
    }
}
