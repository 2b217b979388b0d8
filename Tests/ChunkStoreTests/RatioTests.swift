import CacheModel
import ChunkStore
import Foundation
import LinuxKit
import Testing

@Suite("real keys and values become smaller")
struct RatioTests {
    /// SmolLM2's 30 layers, made of the four that were captured, in chunks of 128 tokens; every byte on disk counts.
    @Test("whole objects of real bfloat16 KV are at least 1.44 times smaller than what they hold", arguments: [0.125, 0.25])
    func realChunks(keepRatio: Double) throws {
        let capture = try Capture()
        let geometry = try Geometry(layers: 30, heads: 3, keyDim: 64, valueDim: 64, element: .bfloat16)
        let policy = try Policy(sink: 16, lag: 128, keepRatio: keepRatio)
        let description = try SessionDescription(
            geometry: geometry, policy: policy, capacity: 8_192, fingerprint: "SmolLM2-135M-Instruct")
        let scratch = CodecScratch()
        var (raw, stored) = (0, 0)
        for chunk in 0..<9 {
            let header = ObjectHeader.chunk(
                chunk, of: description, id: Specimen.id, parent: chunk == 0 ? .none : Specimen.parent, sequence: 1)
            let object = ObjectEncoder.encode(
                capture.chunk(header), kept: try capture.kept(header, policy: keepRatio == 0.25 ? 0 : 2),
                summaries: capture.summaries(header), header: header, scratch: scratch)
            raw += header.tokenCount * geometry.tokenBytes
            stored += object.byteCount
            _ = try ObjectVerifier.verify(object.bytes, path: "capture", expecting: description, scratch: scratch)
        }
        let ratio = Double(raw) / Double(stored)
        print("codec ratio at r = \(keepRatio), header, index, summaries, ids and padding included: \(ratio)")
        #expect(ratio >= 1.44)
        #expect(Double(stored) <= 0.72 * Double(raw))
    }
}

/// The captured layers of a real model, in LagKVTests' golden file.
private struct Capture {
    struct Tensor: Decodable {
        var shape: [Int]
        var data_offsets: [Int]
    }

    let body: Data
    let tensors: [String: Tensor]
    static let layers = [0, 9, 19, 29]

    init() throws {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = try Data(contentsOf: tests.appending(path: "LagKVTests/Golden/smollm2_kv.safetensors"))
        let length = Int(file.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
        tensors = try JSONDecoder().decode([String: Tensor].self, from: file.dropFirst(8).prefix(length))
        body = Data(file.dropFirst(8 + length))
    }

    private func bytes(_ name: String) -> Data {
        let offsets = tensors[name]!.data_offsets
        return body.subdata(in: offsets[0]..<offsets[1])
    }

    func chunk(_ header: ObjectHeader) -> RawChunk {
        let geometry = header.geometry
        let count = RawChunk.byteCount(geometry: geometry, tokenCount: header.tokenCount)
        let chunk = RawChunk(
            geometry: geometry, firstPosition: header.firstPosition, tokenCount: header.tokenCount,
            buffer: AlignedBuffer(byteCount: count))
        for layer in 0..<geometry.layers {
            let name = "layer\(Self.layers[layer % 4])"
            let (keys, values) = (bytes("\(name).k"), bytes("\(name).v"))
            for head in 0..<geometry.heads {
                let start = (head * 1_300 + header.firstPosition) * geometry.keyBytes
                let rows = start..<start + header.tokenCount * geometry.keyBytes
                chunk.buffer.withUnsafeMutableBytes(chunk.keys(layer: layer, head: head)) {
                    _ = keys.copyBytes(to: $0, from: rows)
                }
                chunk.buffer.withUnsafeMutableBytes(chunk.values(layer: layer, head: head)) {
                    _ = values.copyBytes(to: $0, from: rows)
                }
            }
        }
        return chunk
    }

    /// What the reference implementation keeps.
    func kept(_ header: ObjectHeader, policy: Int) throws -> KeptOffsets {
        var kept = KeptOffsets(for: header)
        for layer in 0..<header.geometry.layers {
            let name = "policy\(policy).layer\(Self.layers[layer % 4]).kept"
            let shape = tensors[name]!.shape
            let positions = bytes(name).withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
            for head in 0..<header.geometry.heads {
                let row = positions[((head * shape[1] + header.chunk) * shape[2])...].prefix(shape[2])
                let chosen = Array(0..<header.sink) + row.map { Int($0) - header.firstPosition }
                var offsets = kept.mutableOffsets(layer: layer, head: head)
                for index in offsets.indices { offsets[index] = UInt32(chosen[index]) }
            }
        }
        return kept
    }

    /// Bytes as incompressible as the real ones; they are stored as they are.
    func summaries(_ header: ObjectHeader) -> [UInt8] {
        let geometry = header.geometry
        return [UInt8](repeating: 0x3F, count: 2 * geometry.layers * geometry.heads * geometry.keyBytes)
    }
}
