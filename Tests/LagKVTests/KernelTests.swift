import CacheModel
import LagKV
import Testing

/// Random heads of every format and many shapes: dims around the widths of vectors and blocks, lags around theirs.
struct Shapes {
    var random: SplitMix64

    static let dims = [
        1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 40, 63, 64, 65, 80, 96, 100, 127, 128, 129, 192, 256, 576, 1_000, 1_024,
    ]
    static let lags = [2, 3, 4, 5, 15, 16, 17, 32, 33, 100, 128, 200, 512]

    init(seed: UInt64) { random = SplitMix64(seed: seed) }

    /// Of a chunk whose rows are `dim` wide; what is wide is short, so that a debug build is done in seconds.
    mutating func lag(dim: Int, from least: Int = 2) -> Int {
        pick(Self.lags.filter { $0 == least || $0 > least && $0 * dim <= 8_192 })
    }

    mutating func pick<Element>(_ choices: [Element]) -> Element { choices.randomElement(using: &random)! }

    /// Two chunks of ordinary numbers: every channel has its own mean and spread, every 16th is constant.
    mutating func head(_ element: ElementType, keyDim: Int, valueDim: Int, tokens: Int) -> Head {
        Head(
            element: element, keyDim: keyDim, valueDim: valueDim, keys: rows(element, dim: keyDim, tokens: tokens),
            values: rows(element, dim: valueDim, tokens: tokens))
    }

    private mutating func rows(_ element: ElementType, dim: Int, tokens: Int) -> [UInt8] {
        let means = (0..<dim).map { _ in 2 * random.normal() }
        let spreads = (0..<dim).map { _ in
            Int.random(in: 0..<16, using: &random) == 0 ? 0 : Float.random(in: 0.1...4, using: &random)
        }
        return element.bytes(
            (0..<tokens).flatMap { _ in (0..<dim).map { element.encode(means[$0] + spreads[$0] * random.normal()) } })
    }
}

extension Head {
    /// Overwrites one number of the keys (or the values).
    mutating func setKey(token: Int, channel: Int, to bits: UInt32) {
        keys.replace(at: (token * keyDim + channel) * element.byteCount, with: element.bytes([bits]))
    }
    mutating func setValue(token: Int, channel: Int, to bits: UInt32) {
        values.replace(at: (token * valueDim + channel) * element.byteCount, with: element.bytes([bits]))
    }
}

extension [UInt8] {
    mutating func replace(at offset: Int, with bytes: [UInt8]) { replaceSubrange(offset..<offset + bytes.count, with: bytes) }
}

@Suite("Kernels")
struct KernelTests {
    let seed = runSeed

    @Test("the processor runs at least one set of kernels, and each has its own name")
    func names() {
        #expect(Set(Kernels.all.map(\.name)).count == Kernels.all.count)
        #expect(Kernels.best.name == Kernels.all[0].name)
        print("kernels of this processor: \(Kernels.all.map(\.name).joined(separator: ", "))")
    }

    @Test("bounds are the least and the greatest finite number, bit for bit", arguments: ElementType.allCases)
    func boundsAreExact(element: ElementType) {
        var shapes = Shapes(seed: seed)
        for round in 0..<60 {
            let dim = shapes.pick(Shapes.dims)
            let tokens = shapes.lag(dim: dim)
            // Any bits at all in one round of three: NaNs, infinities, subnormals and both zeros among them.
            let mask: UInt32 = element.byteCount == 4 ? .max : 1 << (8 * UInt32(element.byteCount)) - 1
            let bits = (0..<tokens * dim).map { _ in
                switch round % 3 {
                case 0: UInt32.random(in: .min ... .max, using: &shapes.random) & mask
                case 1: element.encode(shapes.random.normal())
                default:
                    Int.random(in: 0..<4, using: &shapes.random) == 0
                        ? shapes.pick(element.specials) : shapes.pick([0, element.encode(-0.0)])
                }
            }
            let (lo, hi) = Self.expectedBounds(of: bits, dim: dim, element: element)
            for kernels in Kernels.all {
                let seen = Self.bounds(of: element.bytes(bits), dim: dim, element: element, kernels: kernels)
                #expect(
                    seen.lo == element.bytes(lo) && seen.hi == element.bytes(hi),
                    "seed \(seed), \(kernels.name), [\(tokens), \(dim)]")
            }
        }
    }

    @Test("every number that a format has is widened exactly", arguments: ElementType.allCases.filter { $0 != .float32 })
    func wideningIsExact(element: ElementType) throws {
        // 128 numbers that follow each other differ by 1/256 or more of the largest (in f16 1/2048). Scaled by it, beside a
        // channel of zeros, each has its own score.
        let policy = try Policy(sink: 0, lag: 128, keepRatio: 0.5, valueWeight: 0)
        for first in stride(from: UInt32(0), to: 1 << (8 * UInt32(element.byteCount)), by: 128) {
            let numbers = (first..<first + 128).map { element.decode($0) }
            let scale = element.encode(numbers.filter(\.isFinite).map(\.magnitude).max() ?? 1)
            let head = Head(
                element: element, keyDim: 2, valueDim: 1,
                keys: element.bytes(
                    (first..<first + 128).flatMap { [$0, 0] } + [scale, 0] + [UInt32](repeating: 0, count: 254)),
                values: [UInt8](repeating: 0, count: 256 * element.byteCount))
            let (expected, tolerance) = head.reference(0, policy: policy)
            for kernels in Kernels.all {
                let result = head.seal(0, policy: policy, kernels: kernels)
                let agree = zip(result.scores, expected).allSatisfy { score, expected in
                    score.isFinite == expected.isFinite
                        && (!score.isFinite || abs(Double(score) - expected) <= tolerance * expected)
                }
                #expect(agree, "\(kernels), numbers from \(first) on")
                #expect(result.abnormal == numbers.count { !$0.isFinite })
            }
        }
    }

    @Test("scores are the reference's, within what f32 can tell", arguments: ElementType.allCases)
    func scoresAreTheReferences(element: ElementType) throws {
        var shapes = Shapes(seed: seed)
        var worst = 0.0
        for _ in 0..<30 {
            let (keyDim, valueDim) = (shapes.pick(Shapes.dims), shapes.pick(Shapes.dims))
            let lag = shapes.lag(dim: keyDim + valueDim)
            let policy = try Policy(
                sink: Int.random(in: 0...3, using: &shapes.random), lag: lag,
                keepRatio: .random(in: 0.05...1, using: &shapes.random),
                valueWeight: shapes.pick([0, 0.5, 1, 3]))
            let head = shapes.head(element, keyDim: keyDim, valueDim: valueDim, tokens: policy.sink + 2 * lag)
            let (expected, tolerance) = head.reference(0, policy: policy)
            for kernels in Kernels.all {
                let result = head.seal(0, policy: policy, kernels: kernels)
                let context: Comment = "seed \(seed), \(kernels.name), lag \(lag), dims \(keyDim) and \(valueDim)"
                #expect(result.abnormal == 0, context)
                for (score, expected) in zip(result.scores, expected) {
                    #expect(abs(Double(score) - expected) <= tolerance * expected, context)
                    worst = max(worst, abs(Double(score) - expected) / (tolerance * expected))
                }
                // What is kept is the best of these scores, by the reference's own selection.
                #expect(
                    result.kept.map(Int.init) == Reference.kept(policy.keptPerChunk, of: result.scores.map(Double.init)), context)
            }
        }
        print("scores of \(element.name): at most \(worst) of the tolerance, seed \(seed)")
    }

    @Test("all sets with multiply-add give the same bits", arguments: ElementType.allCases)
    func setsAgree(element: ElementType) throws {
        var shapes = Shapes(seed: seed)
        for _ in 0..<30 {
            let (keyDim, valueDim) = (shapes.pick(Shapes.dims), shapes.pick(Shapes.dims))
            let lag = shapes.lag(dim: keyDim + valueDim)
            let policy = try Policy(sink: 0, lag: lag, keepRatio: 0.25)
            let head = shapes.head(element, keyDim: keyDim, valueDim: valueDim, tokens: 2 * lag)
            let results = Kernels.all.filter { $0.name != "baseline" }.map { head.seal(0, policy: policy, kernels: $0) }
            #expect(results.allSatisfy { $0 == results[0] }, "seed \(seed), lag \(lag), dims \(head.keyDim) and \(head.valueDim)")
        }
    }

    @Test(
        "a token with a NaN or an infinity is kept first, counted, and changes no other's score", arguments: ElementType.allCases)
    func abnormalTokens(element: ElementType) throws {
        var shapes = Shapes(seed: seed)
        for _ in 0..<30 {
            let (keyDim, valueDim) = (shapes.pick(Shapes.dims), shapes.pick(Shapes.dims))
            let lag = shapes.lag(dim: keyDim + valueDim, from: 5)
            let policy = try Policy(sink: 0, lag: lag, keepRatio: 0.25)
            var head = shapes.head(element, keyDim: keyDim, valueDim: valueDim, tokens: 2 * lag)
            let bad = Set(
                (0..<Int.random(in: 1...lag, using: &shapes.random)).map { _ in Int.random(in: 0..<lag, using: &shapes.random) })
            for token in bad {
                if Bool.random(using: &shapes.random) {
                    head.setKey(
                        token: token, channel: .random(in: 0..<head.keyDim, using: &shapes.random),
                        to: shapes.pick(element.specials))
                } else {
                    head.setValue(
                        token: token, channel: .random(in: 0..<head.valueDim, using: &shapes.random),
                        to: shapes.pick(element.specials))
                }
            }
            let (expected, tolerance) = head.reference(0, policy: policy)
            for kernels in Kernels.all {
                let result = head.seal(0, policy: policy, kernels: kernels)
                let context: Comment = "seed \(seed), \(kernels.name), lag \(lag), dims \(head.keyDim) and \(head.valueDim)"
                #expect(result.abnormal == bad.count, context)
                for (token, score) in result.scores.enumerated() {
                    #expect((score == .infinity) == bad.contains(token), context)
                    if score.isFinite { #expect(abs(Double(score) - expected[token]) <= tolerance * expected[token], context) }
                }
                #expect(bad.sorted().prefix(result.kept.count).allSatisfy { result.kept.contains(UInt32($0)) }, context)
            }
        }
    }

    @Test("numbers that are not finite in the reference chunk are outside its bounds")
    func abnormalReference() throws {
        var shapes = Shapes(seed: seed)
        for element in ElementType.allCases {
            let policy = try Policy(sink: 0, lag: 32, keepRatio: 0.25)
            var head = shapes.head(element, keyDim: 40, valueDim: 24, tokens: 64)
            for token in 32..<64 {
                head.setKey(token: token, channel: 5, to: shapes.pick(element.specials))  // Not one finite number: adds nothing.
                head.setValue(token: token, channel: token % 24, to: shapes.pick(element.specials))
            }
            let (expected, tolerance) = head.reference(0, policy: policy)
            for kernels in Kernels.all {
                let result = head.seal(0, policy: policy, kernels: kernels)
                #expect(result.abnormal == 0)
                for (score, expected) in zip(result.scores, expected) {
                    #expect(
                        abs(Double(score) - expected) <= tolerance * expected, "seed \(seed), \(element.name), \(kernels.name)")
                }
            }
        }
    }

    @Test("huge and tiny numbers of f32 and bf16 are kept rather than misjudged", arguments: [ElementType.float32, .bfloat16])
    func extremes(element: ElementType) throws {
        var shapes = Shapes(seed: seed)
        for _ in 0..<60 {
            let lag = shapes.pick([8, 16, 33])
            let policy = try Policy(sink: 0, lag: lag, keepRatio: 0.5)
            var head = shapes.head(element, keyDim: shapes.pick([1, 2, 17, 64]), valueDim: 8, tokens: 2 * lag)
            let magnitudes = shapes.pick(
                [[3e38, -3e38, 1e38], [1e-38, 0x1p-133, 0], [1e30, 1, -1e30], [.leastNonzeroMagnitude, 3e38]] as [[Float]])
            for token in 0..<2 * lag {
                head.setKey(token: token, channel: 0, to: element.encode(shapes.pick(magnitudes)))
            }
            let (expected, _) = head.reference(0, policy: policy)
            for kernels in Kernels.all {
                let result = head.seal(0, policy: policy, kernels: kernels)
                let context: Comment =
                    "seed \(seed), \(kernels.name), \(element.name), lag \(lag), dim \(head.keyDim), \(magnitudes)"
                #expect(result.abnormal == result.scores.count { $0 == .infinity }, context)
                #expect(result.scores.allSatisfy { $0 >= 0 }, context)
                // Where double precision says that f32 cannot hold it, it is abnormal.
                for (score, expected) in zip(result.scores, expected) where expected == .infinity {
                    #expect(score == .infinity, context)
                }
            }
        }
    }

    private static func bounds(of rows: [UInt8], dim: Int, element: ElementType, kernels: Kernels) -> (lo: [UInt8], hi: [UInt8]) {
        var lo = [UInt8](repeating: 0xaa, count: dim * element.byteCount)
        var hi = lo
        var loSpan = lo.mutableSpan
        var hiSpan = hi.mutableSpan
        var loBytes = loSpan.mutableBytes
        var hiBytes = hiSpan.mutableBytes
        kernels.bounds(of: rows.span.bytes, dim: dim, element: element, lo: &loBytes, hi: &hiBytes)
        return (lo, hi)
    }

    private static func expectedBounds(of bits: [UInt32], dim: Int, element: ElementType) -> (lo: [UInt32], hi: [UInt32]) {
        let channels = (0..<dim).map { c -> [UInt32] in
            let finite = stride(from: c, to: bits.count, by: dim).map { bits[$0] }.filter { element.decode($0).isFinite }
            return finite.sorted { element.decode($0).isTotallyOrdered(belowOrEqualTo: element.decode($1)) && $0 != $1 }
        }
        return (channels.map { $0.first ?? 0 }, channels.map { $0.last ?? 0 })
    }
}
