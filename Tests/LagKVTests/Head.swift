import CacheModel
import LagKV

/// One head's tokens, and what kernels and reference make of its chunks.
struct Head {
    var element: ElementType
    var keyDim: Int
    var valueDim: Int
    var keys: [UInt8]
    var values: [UInt8]

    struct Result: Equatable {
        var scores: [Float]
        var kept: [UInt32]
        var abnormal: Int
        var lo: [UInt8]
        var hi: [UInt8]
    }

    var geometry: Geometry {
        try! Geometry(layers: 1, heads: 1, keyDim: keyDim, valueDim: valueDim, element: element)
    }

    /// The bytes of the keys of `tokens`; likewise of the values.
    func keys(_ tokens: Range<Int>) -> Range<Int> {
        tokens.lowerBound * geometry.keyBytes..<tokens.upperBound * geometry.keyBytes
    }
    func values(_ tokens: Range<Int>) -> Range<Int> {
        tokens.lowerBound * geometry.valueBytes..<tokens.upperBound * geometry.valueBytes
    }

    /// What the kernels make of chunk `chunk`.
    func seal(_ chunk: Int, policy: Policy, kernels: Kernels = .best) -> Result {
        let first = policy.firstPosition(ofChunk: chunk)
        let (own, next) = (first..<first + policy.lag, first + policy.lag..<first + 2 * policy.lag)
        var scorer = ChunkScorer(geometry: geometry, policy: policy, kernels: kernels)
        var kept = [UInt32](repeating: .max, count: policy.keptPerChunk)
        var lo = [UInt8](repeating: 0xaa, count: geometry.keyBytes)
        var hi = lo
        var keptSpan = kept.mutableSpan
        var loSpan = lo.mutableSpan
        var hiSpan = hi.mutableSpan
        var loBytes = loSpan.mutableBytes
        var hiBytes = hiSpan.mutableBytes
        let abnormal = scorer.select(
            keys: keys.span.bytes.extracting(keys(own)), values: values.span.bytes.extracting(values(own)),
            nextKeys: keys.span.bytes.extracting(keys(next)), nextValues: values.span.bytes.extracting(values(next)),
            kept: &keptSpan, lo: &loBytes, hi: &hiBytes)
        let scores = scorer.scores
        let copy = scores.indices.map { scores[$0] }
        return Result(scores: copy, kept: kept, abnormal: abnormal, lo: lo, hi: hi)
    }

    /// What the reference says the scores of chunk `chunk` are, and how far f32 may be from them, relatively.
    func reference(_ chunk: Int, policy: Policy) -> (scores: [Double], tolerance: Double) {
        let first = policy.firstPosition(ofChunk: chunk)
        let (own, next) = (first..<first + policy.lag, first + policy.lag..<first + 2 * policy.lag)
        let (ownKeys, nextKeys) = (element.floats(Array(keys[keys(own)])), element.floats(Array(keys[keys(next)])))
        let (ownValues, nextValues) = (element.floats(Array(values[values(own)])), element.floats(Array(values[values(next)])))
        let scores = Reference.scores(
            keys: ownKeys, values: ownValues, nextKeys: nextKeys, nextValues: nextValues, keyDim: keyDim, valueDim: valueDim,
            valueWeight: policy.valueWeight)
        let tolerance =
            Self.uncertainty(of: ownKeys, reference: nextKeys, dim: keyDim)
            + Self.uncertainty(of: ownValues, reference: nextValues, dim: valueDim)
        return (scores, tolerance + 4e-7)
    }

    /// How far the largest error of a σ may be from the true one: x̂ carries the rounding of lo / (hi − lo), and the variance
    /// is a difference of two rounded sums. A softmax's relative error is its exponent's absolute one.
    private static func uncertainty(of rows: [Float], reference: [Float], dim: Int) -> Double {
        let (lo, hi) = Reference.bounds(of: reference, dim: dim)
        let live = (0..<dim).filter { hi[$0] > lo[$0] }.map {
            (channel: $0, lo: Double(lo[$0]), range: Double(hi[$0]) - Double(lo[$0]))
        }
        let offset = live.map { $0.lo.magnitude / $0.range }.max() ?? 0
        let errors = stride(from: 0, to: rows.count, by: dim).map { row -> Double in
            // A channel that adds nothing is at −½ in every token.
            let rest = Double(dim - live.count)
            var (sum, squares) = (-rest / 2, rest / 4)
            for (channel, lo, range) in live {
                let y = (Double(rows[row + channel]) - lo) / range - 0.5
                (sum, squares) = (sum + y, squares + y * y)
            }
            guard squares.isFinite, dim > 1 else { return 0 }
            let error = 16 * Double(Float.ulpOfOne) * squares / Double(dim - 1)
            let variance = max(0, squares - sum * sum / Double(dim)) / Double(dim - 1)
            return min(error.squareRoot(), error / (2 * variance.squareRoot()))
        }
        return errors.max()! + Double(Float.ulpOfOne) * offset
    }
}
