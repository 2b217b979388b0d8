internal import CacheModel
internal import FoundationEssentials

/// The JSON at the beginning of a safetensors file: https://github.com/huggingface/safetensors#format
package struct SafetensorsHeader: Codable {
    package struct Tensor: Codable, Equatable {
        /// "BF16", "F32", …
        var dtype: String
        var shape: [Int]
        /// Begin and end, from the end of the header.
        var dataOffsets: [Int]

        enum CodingKeys: String, CodingKey {
            case dtype, shape
            case dataOffsets = "data_offsets"
        }
    }

    /// What beyond a header is no header, as the format's own reader says (100 MB).
    static let largestByteCount = 100_000_000

    var tensors: [String: Tensor] = [:]
    package var metadata: [String: String] = [:]

    private struct Key: CodingKey {
        static let metadata = Key("__metadata__")
        var stringValue: String
        var intValue: Int? { nil }
        init(_ text: String) { stringValue = text }
        init?(stringValue: String) { self.init(stringValue) }
        init?(intValue: Int) { nil }
    }

    init() {}

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        for key in container.allKeys {
            if key.stringValue == Key.metadata.stringValue {
                metadata = try container.decode([String: String].self, forKey: key)
            } else {
                tensors[key.stringValue] = try container.decode(Tensor.self, forKey: key)
            }
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        if !metadata.isEmpty { try container.encode(metadata, forKey: .metadata) }
        for (name, tensor) in tensors { try container.encode(tensor, forKey: Key(name)) }
    }

    /// Bytes of the tensors.
    package var dataBytes: Int { tensors.values.map { $0.dataOffsets[1] }.max() ?? 0 }

    /// Adds a tensor after those that are there.
    package mutating func append(_ name: String, dtype: String, shape: [Int], elementBytes: Int) {
        let begin = dataBytes
        tensors[name] = Tensor(dtype: dtype, shape: shape, dataOffsets: [begin, begin + shape.reduce(elementBytes, *)])
    }

    /// The length, the JSON, and spaces up to a multiple of 8.
    package func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        guard var json = try? encoder.encode(self) else { fatalError("names and numbers are always JSON") }
        while json.count % 8 != 0 { json.append(UInt8(ascii: " ")) }
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json
    }
}

extension ElementType {
    /// The dtype's name in safetensors files.
    var safetensorsName: String {
        switch self {
        case .float32: "F32"
        case .float16: "F16"
        case .bfloat16: "BF16"
        case .float8e4m3: "F8_E4M3"
        case .float8e5m2: "F8_E5M2"
        }
    }

    init?(safetensorsName: String) {
        guard let match = Self.allCases.first(where: { $0.safetensorsName == safetensorsName }) else { return nil }
        self = match
    }
}
