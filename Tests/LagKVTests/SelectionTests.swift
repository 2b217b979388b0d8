import LagKV
import Testing

@Suite("Selection")
struct SelectionTests {
    let seed = runSeed

    @Test("the highest scores are selected, of equal ones the earlier, ascending", arguments: Kernels.all)
    func selectionIsTheReferences(kernels: Kernels) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<500 {
            let tokens = Int.random(in: 1...300, using: &random)
            // From all equal over a few steps to all different, with some infinite, zero and the least that there are.
            let steps = [1, 2, 5, 40, 1_000_000].randomElement(using: &random)!
            let scores = (0..<tokens).map { _ -> Float in
                switch Int.random(in: 0..<20, using: &random) {
                case 0: .infinity
                case 1: 0
                case 2: .leastNonzeroMagnitude
                default: Float(Int.random(in: 0..<steps, using: &random)) / Float(steps) * 0.03
                }
            }
            let count = Int.random(in: 0...tokens, using: &random)
            var offsets = [UInt32](repeating: .max, count: count)
            var span = offsets.mutableSpan
            kernels.select(highestOf: scores.span, into: &span)
            #expect(
                offsets.map(Int.init) == Reference.kept(count, of: scores.map(Double.init)),
                "seed \(seed), \(tokens) tokens, \(count) kept")
        }
    }
}
