import CacheModel
import Foundation

/// Keys and values of a real model, and what the reference implementation of LagKV makes of them: Golden/*.safetensors.
struct Golden {
    struct Tensor {
        var shape: [Int]
        var bytes: Data

        /// Of tensors of 32 bits a number.
        func elements<Element>(of type: Element.Type) -> [Element] {
            bytes.withUnsafeBytes { Array($0.bindMemory(to: type)) }
        }
    }

    struct Header: Decodable {
        var shape: [Int]
        var dataOffsets: [Int]
    }

    struct Description: Decodable {
        struct Row: Decodable {
            var sink: Int
            var lag: Int
            var keepRatio: Double
            var valueWeight: Double
            var keptPerChunk: Int
            var chunksSealed: Int
        }
        var layers: [Int]
        var kvHeads: Int
        var headDim: Int
        var tokens: Int
        var policies: [Row]
    }

    let description: Description
    let tensors: [String: Tensor]

    init() throws {
        let folder = Bundle.module.bundleURL.appending(path: "Golden")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        description = try decoder.decode(
            Description.self, from: Data(contentsOf: folder.appending(path: "smollm2_kv.json")))

        // safetensors: u64 length of the header, the header in JSON, the tensors.
        let file = try Data(contentsOf: folder.appending(path: "smollm2_kv.safetensors"))
        let length = Int(file.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
        let body = file.dropFirst(8 + length)
        let headers = try decoder.decode([String: Header].self, from: file.dropFirst(8).prefix(length))
        tensors = headers.mapValues { header in
            let from = body.startIndex + header.dataOffsets[0]
            return Tensor(shape: header.shape, bytes: Data(body[from..<body.startIndex + header.dataOffsets[1]]))
        }
    }

    /// One head of a `layerN.k` or `layerN.v`: bf16 `[tokens, dim]`.
    func head(_ head: Int, of name: String) -> [UInt8] {
        let tensor = tensors[name]!
        let size = tensor.bytes.count / tensor.shape[0]
        return Array(tensor.bytes[head * size..<(head + 1) * size])
    }
}
