import CacheModel
import Foundation

/// The seed of this run's random tests, the same for all: LAGKV_SEED runs a failure again.
let runSeed: UInt64 = {
    let seed = ProcessInfo.processInfo.environment["LAGKV_SEED"].flatMap { UInt64($0) } ?? .random(in: .min ... .max)
    print("LAGKV_SEED=\(seed)")
    return seed
}()

/// A seeded generator, so that a failure can be run again.
struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// About normal: the sum of four uniform numbers.
    mutating func normal() -> Float { (0..<4).reduce(0) { sum, _ in sum + Float.random(in: -1...1, using: &self) } }
}

/// The formats, one number at a time and independent of the kernels.
extension ElementType {
    func decode(_ bits: UInt32) -> Float {
        switch self {
        case .float32: return Float(bitPattern: bits)
        case .float16: return Float(Float16(bitPattern: UInt16(bits)))
        case .bfloat16: return Float(bitPattern: bits << 16)
        case .float8e5m2: return Float(Float16(bitPattern: UInt16(bits) << 8))
        case .float8e4m3:
            let (exponent, mantissa) = (Int(bits >> 3 & 15), Float(bits & 7))
            if bits & 0x7f == 0x7f { return .nan }
            let magnitude =
                exponent == 0 ? mantissa * 0x1p-9 : (8 + mantissa) * Float(sign: .plus, exponent: exponent - 10, significand: 1)
            return bits & 0x80 == 0 ? magnitude : -magnitude
        }
    }

    /// Toward zero, and to the largest finite number beyond it.
    func encode(_ x: Float) -> UInt32 {
        switch self {
        case .float32: return x.bitPattern
        case .bfloat16: return x.bitPattern >> 16
        case .float16: return UInt32(Float16(x.magnitude > 65_504 ? (x < 0 ? -65_504 : 65_504) : x).bitPattern)
        case .float8e5m2: return Self.float16.encode(x) >> 8
        case .float8e4m3:
            let sign: UInt32 = x.sign == .minus ? 0x80 : 0
            return sign | (0...0x7e).last { decode($0) <= x.magnitude }!
        }
    }

    /// Bits of a NaN, +∞ and −∞, of those that the format has.
    var specials: [UInt32] {
        switch self {
        case .float32: [0x7fc0_0000, 0xff80_0001, 0x7f80_0000, 0xff80_0000]
        case .float16: [0x7e00, 0xfc01, 0x7c00, 0xfc00]
        case .bfloat16: [0x7fc0, 0xff81, 0x7f80, 0xff80]
        case .float8e4m3: [0x7f, 0xff]
        case .float8e5m2: [0x7e, 0xfd, 0x7c, 0xfc]
        }
    }

    func bytes(_ bits: [UInt32]) -> [UInt8] {
        bits.flatMap { bits in (0..<byteCount).map { UInt8(truncatingIfNeeded: bits >> (8 * UInt32($0))) } }
    }

    func floats(_ bytes: [UInt8]) -> [Float] {
        stride(from: 0, to: bytes.count, by: byteCount).map { at in
            decode((0..<byteCount).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) })
        }
    }
}
