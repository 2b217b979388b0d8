internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import Safetensors

/// Real keys and values, in the shapes that the figures want.
struct SampleKV {
    /// The repository's own sample: four layers of SmolLM2 over 1,300 tokens.
    static let defaultPath = "Tests/LagKVTests/Golden/smollm2_kv.safetensors"

    let capture: Capture

    init(path: String) throws {
        capture = try Capture(path: path)
        guard capture.geometry.element == .bfloat16, capture.geometry.keyDim == capture.geometry.valueDim else {
            throw BenchError.badCapture("\(path): \(capture.geometry.element.name), keys of \(capture.geometry.keyDim) and values of \(capture.geometry.valueDim); wanted: bfloat16, dims alike")
        }
    }

    var summary: String {
        let geometry = capture.geometry
        return "\(geometry.layers) layers, \(geometry.heads) KV heads, \(geometry.keyDim) dims, \(capture.tokens) tokens, bf16"
    }

    /// Llama-3-8B's cache.
    static let llama = try! Geometry(layers: 32, heads: 8, keyDim: 128, valueDim: 128, element: .bfloat16)
    /// SmolLM2-135M's cache.
    static let smol = try! Geometry(layers: 30, heads: 3, keyDim: 64, valueDim: 64, element: .bfloat16)

    /// Keys and values [layers, heads, tokens, dim] of another shape, made of whole vectors of the capture: a longer vector
    /// is several heads' side by side, and each layer and head begins at another token.
    func tensors(_ geometry: Geometry, tokens: Int) -> (keys: AlignedBuffer, values: AlignedBuffer) {
        let bytes = geometry.layers * geometry.heads * tokens * geometry.keyBytes
        let (keys, values) = (AlignedBuffer(byteCount: bytes), AlignedBuffer(byteCount: bytes))
        let parts = max(1, geometry.keyDim / capture.geometry.keyDim)
        let partBytes = geometry.keyBytes / parts
        var offset = 0
        for layer in 0..<geometry.layers {
            for head in 0..<geometry.heads {
                for token in 0..<tokens {
                    let from = (token + 131 * head + 17 * layer) % capture.tokens
                    for part in 0..<parts {
                        let source = (layer % capture.geometry.layers, (head * parts + part) % capture.geometry.heads)
                        keys.copy(capture.keys(layer: source.0, head: source.1, from..<from + 1).extracting(0..<partBytes), to: offset)
                        values.copy(capture.values(layer: source.0, head: source.1, from..<from + 1).extracting(0..<partBytes), to: offset)
                        offset += partBytes
                    }
                }
            }
        }
        return (keys, values)
    }
}

enum BenchError: Error, CustomStringConvertible {
    case badCapture(String)
    case daemon(String)

    var description: String {
        switch self {
        case .badCapture(let text): text
        case .daemon(let text): text
        }
    }
}
