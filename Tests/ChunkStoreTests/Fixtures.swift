import CacheModel
import ChunkStore
import LinuxKit

/// SplitMix64: every random choice of a test comes from one printed seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

/// The tokens, choices and header of one object.
struct Specimen {
    var description: SessionDescription
    var header: ObjectHeader
    var chunk: RawChunk
    var kept: KeptOffsets
    var summaries: [UInt8]

    func encode(_ scratch: CodecScratch, into buffer: AlignedBuffer? = nil) -> EncodedObject {
        ObjectEncoder.encode(chunk, kept: kept, summaries: summaries, header: header, scratch: scratch, into: buffer)
    }

    var chunkBytes: Int { RawChunk.byteCount(geometry: chunk.geometry, tokenCount: chunk.tokenCount) }
}

extension Specimen {
    static let id = ObjectID(high: 0x0123_4567_89AB_CDEF, low: 0xFEDC_BA98_7654_3210)
    static let parent = ObjectID(high: 0x1111_2222_3333_4444, low: 0x5555_6666_7777_8888)

    /// Anything that the format allows and that is small.
    static func random(
        _ element: ElementType, _ kind: ObjectHeader.Kind, using generator: inout SeededGenerator
    ) throws -> Specimen {
        let geometry = try Geometry(
            layers: .random(in: 1...4, using: &generator), heads: .random(in: 1...3, using: &generator),
            keyDim: .random(in: 1...40, using: &generator), valueDim: .random(in: 1...40, using: &generator), element: element)
        let policy = try Policy(
            sink: .random(in: 0...9, using: &generator), lag: .random(in: 2...40, using: &generator),
            keepRatio: [0.01, 0.125, 0.3, 0.5, 0.99, 1].randomElement(using: &generator)!,
            valueWeight: .random(in: 0...2, using: &generator),
            uncompressedLayers: (0..<geometry.layers).filter { _ in Int.random(in: 0..<4, using: &generator) == 0 })
        let description = try SessionDescription(
            geometry: geometry, policy: policy, capacity: 10_000,
            fingerprint: ["", "model@1", "é"].randomElement(using: &generator)!)
        let chunk = [0, 0, 1, 17].randomElement(using: &generator)!
        let header =
            switch kind {
            case .chunk: ObjectHeader.chunk(chunk, of: description, id: id, parent: chunk == 0 ? .none : parent, sequence: 7)
            case .window:
                ObjectHeader.window(
                    after: chunk, tokenCount: .random(in: 0..<2 * policy.lag, using: &generator), of: description, id: id,
                    parent: chunk == 0 ? .none : parent, sequence: 7)
            }
        return Specimen(description, header, using: &generator)
    }

    /// Random tokens, some like real ones and some of any bits, and random choices of what is kept.
    init(_ description: SessionDescription, _ header: ObjectHeader, using generator: inout SeededGenerator) {
        let geometry = description.geometry
        let count = RawChunk.byteCount(geometry: geometry, tokenCount: header.tokenCount)
        let buffer = AlignedBuffer(byteCount: max(1, count))
        var bytes = buffer.mutableBytes(0..<count)
        // Few values compress, two of them best in tiers, and any bytes do not: all codecs occur.
        var mask: UInt8 = 0
        for offset in 0..<count {
            if offset % 1_024 == 0 { mask = [0x01, 0x07, 0x3F, 0xFF].randomElement(using: &generator)! }
            bytes.storeBytes(of: UInt8.random(in: 0...255, using: &generator) & mask, toByteOffset: offset, as: UInt8.self)
        }
        self.description = description
        self.header = header
        chunk = RawChunk(geometry: geometry, firstPosition: header.firstPosition, tokenCount: header.tokenCount, buffer: buffer)
        var kept = KeptOffsets(for: header)
        for layer in 0..<geometry.layers {
            for head in 0..<geometry.heads {
                let others = (header.sink..<header.tokenCount).shuffled(using: &generator)
                let chosen = Array(0..<header.sink) + others.prefix(header.keptCount(layer: layer) - header.sink).sorted()
                var offsets = kept.mutableOffsets(layer: layer, head: head)
                for index in offsets.indices { offsets[index] = UInt32(chosen[index]) }
            }
        }
        self.kept = kept
        let summaryBytes = header.kind == .chunk ? geometry.layers * geometry.heads * 2 * geometry.keyBytes : 0
        summaries = (0..<summaryBytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}

extension RawSpan {
    var array: [UInt8] { withUnsafeBytes { Array($0) } }
}

extension Span<UInt32> {
    var array: [UInt32] { indices.map { self[$0] } }
}

extension ObjectIndex {
    /// Of a whole object in memory.
    init(_ object: EncodedObject, expecting description: SessionDescription?) throws(CacheError) {
        try self.init(parsing: object.bytes, fileSize: object.byteCount, path: "specimen", expecting: description)
    }
}
