import CacheModel
import LagKVClient

/// Keys, values and ids of tokens that any test can make again from a seed: token t is the same whatever surrounds it.
struct Tokens {
    let geometry: Geometry
    let seed: UInt64
    var count: Int

    /// [layers, heads, range, keyDim].
    func keys(_ range: Range<Int>) -> [UInt8] { bytes(range, rowBytes: geometry.keyBytes, salt: 1) }
    /// [layers, heads, range, valueDim].
    func values(_ range: Range<Int>) -> [UInt8] { bytes(range, rowBytes: geometry.valueBytes, salt: 2) }
    func ids(_ range: Range<Int>) -> [UInt32] { range.map { UInt32(truncatingIfNeeded: Self.mix(seed &+ UInt64($0))) } }

    /// Any bytes are valid numbers, the infinities and NaNs among them included.
    private func bytes(_ range: Range<Int>, rowBytes: Int, salt: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(geometry.layers * geometry.heads * range.count * rowBytes)
        for layer in 0..<geometry.layers {
            for head in 0..<geometry.heads {
                for token in range { appendRow(layer, head, token, rowBytes, salt, to: &bytes) }
            }
        }
        return bytes
    }

    func key(layer: Int, head: Int, token: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        appendRow(layer, head, token, geometry.keyBytes, 1, to: &bytes)
        return bytes
    }

    func value(layer: Int, head: Int, token: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        appendRow(layer, head, token, geometry.valueBytes, 2, to: &bytes)
        return bytes
    }

    private func appendRow(_ layer: Int, _ head: Int, _ token: Int, _ rowBytes: Int, _ salt: UInt64, to bytes: inout [UInt8]) {
        var state = Self.mix(seed &+ salt << 60 &+ UInt64(layer) << 40 &+ UInt64(head) << 24 &+ UInt64(token))
        var left = rowBytes
        while left > 0 {
            state = Self.mix(state)
            withUnsafeBytes(of: state.littleEndian) { bytes.append(contentsOf: $0.prefix(left)) }
            left -= 8
        }
    }

    private static func mix(_ word: UInt64) -> UInt64 {
        var word = word &+ 0x9E37_79B9_7F4A_7C15
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}

extension Session {
    /// Appends tokens `range`.
    func append(_ tokens: Tokens, _ range: Range<Int>, durable: Bool = false) throws(ClientError) {
        let (keys, values) = (tokens.keys(range), tokens.values(range))
        try append(
            keys: keys.span.bytes, values: values.span.bytes, count: range.count, ids: tokens.ids(range), durable: durable)
    }
}

/// SplitMix64: the same numbers from the same seed, everywhere.
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }

    mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
}
