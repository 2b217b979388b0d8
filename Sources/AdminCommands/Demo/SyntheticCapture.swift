internal import CacheModel
internal import LinuxKit
internal import Safetensors

/// Keys and values as a model might make them, from a seed: each channel with a level and a spread of its own, each token
/// drawn around them. They compress as real ones do, and nothing else is claimed for them.
enum SyntheticCapture {
    /// Writes a capture in bfloat16.
    static func write(to path: String, _ description: SessionDescription, tokens: Int, seed: UInt64) throws {
        precondition(description.geometry.element == .bfloat16, "synthetic keys are bfloat16")
        let geometry = description.geometry
        var random = Noise(seed: seed)
        var writer = try SafetensorsWriter(path: path, Capture.header(description, tokens: tokens))
        for _ in 0..<geometry.layers {
            for dim in [geometry.keyDim, geometry.valueDim] {
                for _ in 0..<geometry.heads {
                    let rows = head(tokens, dim, &random)
                    try writer.append(rows.span.bytes)
                }
            }
        }
        let ids = Array(0..<UInt32(tokens))
        try writer.append(ids.span.bytes)
        try writer.finish()
    }

    /// [tokens, dim] of bfloat16.
    private static func head(_ tokens: Int, _ dim: Int, _ random: inout Noise) -> [UInt16] {
        let levels = (0..<dim).map { _ in 2 * random.next() }
        let spreads = (0..<dim).map { _ in 0.2 + abs(random.next()) }
        var rows: [UInt16] = []
        rows.reserveCapacity(tokens * dim)
        for _ in 0..<tokens {
            for channel in 0..<dim {
                let value = levels[channel] + spreads[channel] * random.next()
                rows.append(UInt16(value.bitPattern >> 16))
            }
        }
        return rows
    }

    /// Numbers around 0 with a spread near 1, the same from the same seed.
    private struct Noise {
        private var state: UInt64
        init(seed: UInt64) { state = seed }

        /// The sum of four uniform numbers: bell-shaped enough.
        mutating func next() -> Float {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let word = (state >> 33) ^ state
            let sum = (word & 0xFFFF) + (word >> 16 & 0xFFFF) + (word >> 32 & 0xFFFF) + (word >> 48)
            return (Float(sum) / 65_536 - 2) * 1.73
        }
    }
}
