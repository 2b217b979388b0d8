/// How one number of a key or a value is stored. Scores are computed in f32 from the stored form; storage is never
/// converted, so that every token comes back bit for bit.
public enum ElementType: UInt8, CaseIterable, Sendable, Hashable {
    case float32 = 1
    case float16 = 2
    case bfloat16 = 3
    /// OCP FP8 E4M3 (no infinities; S.1111.111 is NaN), as PyTorch's `float8_e4m3fn`.
    case float8e4m3 = 4
    /// OCP FP8 E5M2 (IEEE-like: has infinities and NaNs), as PyTorch's `float8_e5m2`.
    case float8e5m2 = 5

    /// Bytes per number.
    public var byteCount: Int {
        switch self {
        case .float32: 4
        case .float16, .bfloat16: 2
        case .float8e4m3, .float8e5m2: 1
        }
    }

    /// The name used on the command line, in Python and in every listing.
    public var name: String {
        switch self {
        case .float32: "float32"
        case .float16: "float16"
        case .bfloat16: "bfloat16"
        case .float8e4m3: "float8_e4m3"
        case .float8e5m2: "float8_e5m2"
        }
    }

    public init?(name: String) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }
}
