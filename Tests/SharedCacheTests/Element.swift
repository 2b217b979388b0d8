import CacheModel

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

    func floats(_ bytes: some Collection<UInt8>) -> [Float] {
        let bytes = Array(bytes)
        return stride(from: 0, to: bytes.count, by: byteCount).map { at in
            decode((0..<byteCount).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) })
        }
    }

    /// Bits of a number of ordinary size: 2⁻⁴ to 2⁴.
    func ordinary(_ random: UInt64) -> UInt32 {
        let (sign, exponent, mantissa) = (UInt32(random & 1), UInt32(random >> 1 & 7), UInt32(truncatingIfNeeded: random >> 8))
        switch self {
        case .float32: return sign << 31 | (123 + exponent) << 23 | mantissa & 0x7f_ffff
        case .float16: return sign << 15 | (11 + exponent) << 10 | mantissa & 0x3ff
        case .bfloat16: return sign << 15 | (123 + exponent) << 7 | mantissa & 0x7f
        case .float8e4m3: return sign << 7 | (3 + exponent) << 3 | mantissa & 7
        case .float8e5m2: return sign << 7 | (11 + exponent) << 2 | mantissa & 3
        }
    }

    /// Bits of a NaN or, where the format has it, an infinity.
    func abnormal(_ random: UInt64) -> UInt32 {
        let specials: [UInt32] =
            switch self {
            case .float32: [0x7fc0_0000, 0xff80_0001, 0x7f80_0000, 0xff80_0000]
            case .float16: [0x7e00, 0xfc01, 0x7c00, 0xfc00]
            case .bfloat16: [0x7fc0, 0xff81, 0x7f80, 0xff80]
            case .float8e4m3: [0x7f, 0xff]
            case .float8e5m2: [0x7e, 0xfd, 0x7c, 0xfc]
            }
        return specials[Int(random % UInt64(specials.count))]
    }
}
