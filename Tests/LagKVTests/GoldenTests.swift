import CacheModel
import LagKV
import Testing

@Suite("Golden vectors of SmolLM2")
struct GoldenTests {
    @Test("every set of kernels keeps what the reference implementation kept, near-ties aside", arguments: Kernels.all)
    func kernelsKeepTheGoldenTokens(kernels: Kernels) throws {
        let golden = try Golden()
        var (swapped, kept, worst) = (0, 0, 0.0)
        for (index, row) in golden.description.policies.enumerated() {
            let policy = try Policy(sink: row.sink, lag: row.lag, keepRatio: row.keepRatio, valueWeight: row.valueWeight)
            #expect(policy.keptPerChunk == row.keptPerChunk)
            #expect(policy.sealedChunks(tokens: golden.description.tokens) == row.chunksSealed)
            for layer in golden.description.layers {
                let scores = golden.tensors["policy\(index).layer\(layer).score"]!.elements(of: Float.self)
                let positions = golden.tensors["policy\(index).layer\(layer).kept"]!.elements(of: Int32.self)
                for number in 0..<golden.description.kvHeads {
                    let dim = golden.description.headDim
                    let head = Head(
                        element: .bfloat16, keyDim: dim, valueDim: dim, keys: golden.head(number, of: "layer\(layer).k"),
                        values: golden.head(number, of: "layer\(layer).v"))
                    for chunk in 0..<row.chunksSealed {
                        let at = number * row.chunksSealed + chunk
                        let expectedScores = scores[at * row.lag..<(at + 1) * row.lag].map { Double($0) }
                        let first = policy.firstPosition(ofChunk: chunk)
                        let expected = positions[at * row.keptPerChunk..<(at + 1) * row.keptPerChunk].map { Int($0) - first }
                        let result = head.seal(chunk, policy: policy, kernels: kernels)
                        let seen = result.kept.map(Int.init)

                        #expect(result.abnormal == 0)
                        #expect(seen == seen.sorted() && Set(seen).count == row.keptPerChunk)
                        for (score, expected) in zip(result.scores, expectedScores) {
                            worst = max(worst, abs(Double(score) - expected) / expected)
                        }
                        // Both in the order of the score: a swap is a pair in the same place.
                        let byScore = { (a: Int, b: Int) in expectedScores[a] > expectedScores[b] }
                        let lost = Set(expected).subtracting(seen).sorted(by: byScore)
                        let won = Set(seen).subtracting(expected).sorted(by: byScore)
                        for (lost, won) in zip(lost, won) {
                            #expect(abs(expectedScores[lost] - expectedScores[won]) < 1e-6 * expectedScores[lost])
                        }
                        swapped += lost.count
                        kept += seen.count
                    }
                }
            }
        }
        #expect(worst < 1e-6)
        print("golden vectors, \(kernels.name): \(swapped) near-ties swapped of \(kept) kept, scores within \(worst) relative")
    }
}
