import CLagKVKernels
import CZstd
import CacheModel
import ChunkStore
import Foundation
import LinuxKit
import Testing

@Suite("the files are what FORMAT.md says")
struct FormatTests {
    let scratch = CodecScratch()

    @Test("a reader written from the text alone reads every object", arguments: ElementType.allCases, ObjectHeader.Kind.allCases)
    func naiveReader(element: ElementType, kind: ObjectHeader.Kind) throws {
        for seed in 100..<112 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let specimen = try Specimen.random(element, kind, using: &generator)
            try compare(try NaiveReader(specimen.encode(scratch).bytes.array), specimen, "seed \(seed), \(specimen.header)")
        }
    }

    private func compare(_ reader: NaiveReader, _ specimen: Specimen, _ comment: Comment) throws {
        let chunk = specimen.chunk
        let tokens = chunk.buffer
        #expect(try reader.ids() == tokens.bytes(chunk.ids).array, comment)
        for layer in 0..<chunk.geometry.layers {
            for head in 0..<chunk.geometry.heads {
                if specimen.header.evictedCount(layer: layer) > 0 {
                    #expect(
                        try reader.kept(layer: layer, head: head)
                            == specimen.kept.offsets(layer: layer, head: head).array.map(Int.init), comment)
                }
                let keys = try reader.rows(layer: layer, head: head, values: false).flatMap(\.self)
                let values = try reader.rows(layer: layer, head: head, values: true).flatMap(\.self)
                #expect(keys == tokens.bytes(chunk.keys(layer: layer, head: head)).array, comment)
                #expect(values == tokens.bytes(chunk.values(layer: layer, head: head)).array, comment)
            }
        }
    }

    @Test("a block that promises in its sample what the rest does not keep is stored as it is")
    func deceivingBlock() throws {
        let geometry = try Geometry(layers: 1, heads: 1, keyDim: 64, valueDim: 64, element: .bfloat16)
        let description = try SessionDescription(
            geometry: geometry, policy: Policy(sink: 0, lag: 128, keepRatio: 1), capacity: 4_096, fingerprint: "")
        let header = ObjectHeader.window(after: 0, tokenCount: 128, of: description, id: Specimen.id, parent: .none, sequence: 1)
        var generator = SeededGenerator(seed: 5)
        let specimen = Specimen(description, header, using: &generator)
        let buffer = specimen.chunk.buffer
        var bytes = buffer.mutableBytes(specimen.chunk.keys(layer: 0))
        for value in 0..<bytes.byteCount / 2 {
            // Eights of values of which one in seven is looked at.
            let bits = value / 8 % 7 == 0 ? 0x3F80 : UInt16.random(in: 0...0xFFFF, using: &generator)
            bytes.storeBytes(of: bits.littleEndian, toByteOffset: 2 * value, as: UInt16.self)
        }
        let reader = try NaiveReader(specimen.encode(scratch).bytes.array)
        // Block 0 holds the ids; of layer 0, a map, summaries and then the keys.
        #expect(reader.entries[3].codec == 0)
        try compare(reader, specimen, "deceiving")
    }

    @Test("the golden object is read as it was meant")
    func goldenObject() throws {
        let specimen = try Specimen.golden()
        let file = try Golden.object()
        try compare(try NaiveReader(file), specimen, "golden")
        let header = try ObjectVerifier.verify(
            file.span.bytes, path: "golden", expecting: specimen.description, scratch: scratch)
        #expect(header == specimen.header)
    }

    @Test("the golden object is what is written today")
    func goldenObjectDrift() throws {
        let written = try Specimen.golden().encode(scratch).bytes.array
        // The frames may differ from one zstd to the next; the others read them all the same.
        guard ZSTD_versionNumber() == Golden.zstdVersion else {
            print("skipped: the golden object was written by zstd \(Golden.zstdVersion), this is \(ZSTD_versionNumber())")
            return
        }
        #expect(written == (try Golden.object()), "the format has drifted: that is a new version")
    }

    @Test("the golden manifest is what is written today, and reads back")
    func goldenManifest() throws {
        let manifest = try Manifest.golden()
        let file = try Golden.manifest()
        #expect(manifest.encoded() == file, "the format has drifted: that is a new version")
        #expect(try Manifest(parsing: file.span.bytes, path: "golden") == manifest)
    }

    @Test("a CRC-32C is the definition's, with and without the instruction, at any length and in any number of steps")
    func checksums() {
        var generator = SeededGenerator(seed: 5)
        let bytes = (0..<20_000).map { _ in UInt8.random(in: 0...255, using: &generator) }
        #expect(lagkv_crc32c(0, Array("123456789".utf8), 9) == 0xE306_9283)
        for length in [0, 1, 7, 8, 9, 767, 768, 769, 2_048, 6_143, 6_144, 6_145, 7_000, 14_336, 20_000] {
            let expected = NaiveReader.crc(bytes[..<length])
            let cut = length / 3
            let seen = bytes.withUnsafeBufferPointer { bytes -> [UInt32] in
                let base = bytes.baseAddress!
                return [
                    lagkv_crc32c(0, base, length), lagkv_crc32c_portable(0, base, length),
                    lagkv_crc32c(lagkv_crc32c(0, base, cut), base + cut, length - cut),
                ]
            }
            #expect(seen == [expected, expected, expected], "\(length) bytes")
        }
    }
}

/// Files that were written once, and say whether the format has drifted since.
enum Golden {
    /// Of the zstd that wrote them.
    static let zstdVersion: UInt32 = 10_504

    static func object() throws -> [UInt8] { try file("object-v2.bin") }
    static func manifest() throws -> [UInt8] { try file("manifest-v1.bin") }

    private static func file(_ name: String) throws -> [UInt8] {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden")
        return Array(try Data(contentsOf: folder.appending(path: name)))
    }
}

extension Manifest {
    static func golden() throws -> Manifest {
        let description = try Specimen.golden().description
        return Manifest(
            id: Specimen.id,
            description: try SessionDescription(
                geometry: description.geometry, policy: description.policy, capacity: 4_096, fingerprint: description.fingerprint,
                isShared: true, isDisposable: true),
            createdMilliseconds: 1_767_225_600_000, owner: 1_000)
    }
}

extension Specimen {
    /// Chunk 0 with its sink, three layers of which one keeps everything, numbers that follow a rule.
    static func golden() throws -> Specimen {
        let geometry = try Geometry(layers: 3, heads: 2, keyDim: 24, valueDim: 16, element: .bfloat16)
        let policy = try Policy(sink: 4, lag: 32, keepRatio: 0.25, valueWeight: 0.5, uncompressedLayers: [1])
        let description = try SessionDescription(geometry: geometry, policy: policy, capacity: 4_096, fingerprint: "golden é")
        let header = ObjectHeader.chunk(0, of: description, id: id, parent: .none, sequence: 42)
        let count = RawChunk.byteCount(geometry: geometry, tokenCount: header.tokenCount)
        let buffer = AlignedBuffer(byteCount: count)
        var bytes = buffer.mutableBytes(0..<count)
        for index in 0..<count / 2 {
            // Exponents of a few values (in tiers), or of many (in a frame); mantissas and signs of all.
            let exponent = 90 + index * index % (index / 1_500 % 2 == 0 ? 7 : 41)
            let bits = UInt16(truncatingIfNeeded: index &* 40_503) & 0x807F | UInt16(exponent) << 7
            bytes.storeBytes(of: bits.littleEndian, toByteOffset: 2 * index, as: UInt16.self)
        }
        var kept = KeptOffsets(for: header)
        for layer in [0, 2] {
            for head in 0..<2 {
                var offsets = kept.mutableOffsets(layer: layer, head: head)
                for index in offsets.indices { offsets[index] = UInt32(index < 4 ? index : 4 * (index - 3) + head + layer) }
            }
        }
        for head in 0..<2 {
            var offsets = kept.mutableOffsets(layer: 1, head: head)
            for index in offsets.indices { offsets[index] = UInt32(index) }
        }
        let summaries = (0..<3 * 2 * 2 * geometry.keyBytes).map { UInt8(truncatingIfNeeded: $0 * 7) }
        return Specimen(
            description: description, header: header,
            chunk: RawChunk(geometry: geometry, firstPosition: 0, tokenCount: header.tokenCount, buffer: buffer), kept: kept,
            summaries: summaries)
    }
}
