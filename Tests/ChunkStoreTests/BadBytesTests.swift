import CLagKVKernels
import CacheModel
import ChunkStore
import LinuxKit
import Testing

@Suite("bad bytes are found and never believed")
struct BadBytesTests {
    let scratch = CodecScratch()

    private func verify(_ file: [UInt8], _ description: SessionDescription?) throws(CacheError) -> ObjectHeader {
        try ObjectVerifier.verify(file.span.bytes, path: "bad", expecting: description, scratch: scratch)
    }

    @Test("no byte of an object can change unseen")
    func everyByte() throws {
        var generator = SeededGenerator(seed: 8)
        let specimen = try Specimen.small()
        var file = specimen.encode(scratch).bytes.array
        #expect(throws: Never.self) { try verify(file, specimen.description) }
        #expect(Set(try NaiveReader(file).entries.map(\.codec)) == [0, 1, 2])
        for offset in file.indices {
            let flip = UInt8.random(in: 1...255, using: &generator)
            file[offset] ^= flip
            #expect(throws: CacheError.self, "byte \(offset) ^ \(flip), seed 8") { try verify(file, specimen.description) }
            file[offset] ^= flip
        }
    }

    @Test("an object that ends early, or goes on, is refused at every length")
    func everyLength() throws {
        let specimen = try Specimen.small()
        let file = specimen.encode(scratch).bytes.array
        for length in file.indices {
            #expect(throws: CacheError.self, "\(length) bytes") { try verify(Array(file[..<length]), specimen.description) }
        }
        for more in [1, 4_096] {
            let longer = file + [UInt8](repeating: 0, count: more)
            #expect(throws: CacheError.self) { try verify(longer, specimen.description) }
        }
    }

    @Test("what the header says is not believed because its checksum is right")
    func forgedHeaders() throws {
        let specimen = try Specimen.golden()
        let file = specimen.encode(scratch).bytes.array
        var accepted = 0
        for seed in 0..<2_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var forged = file
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let offset = Int.random(in: 16..<512 + 12 * 25, using: &generator)
                forged[offset] = [0, 1, 0x7F, 0xFF, .random(in: 0...255, using: &generator)].randomElement(using: &generator)!
            }
            forged.sealHeader()
            // Either refused, or (an id, a sequence, a weight) a header as good as any: what must not happen is a trap.
            if let header = try? verify(forged, nil) {
                accepted += 1
                #expect(header.tokenCount == specimen.header.tokenCount, "seed \(seed)")
            }
        }
        print("forged headers: \(accepted) of 2,000 are valid")
    }

    @Test("what a block decodes to is bounded whatever it holds")
    func forgedBlocks() throws {
        let specimen = try Specimen.golden()
        let file = specimen.encode(scratch).bytes.array
        let reader = try NaiveReader(file)
        var refused = 0
        for seed in 0..<2_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var forged = file
            let block = reader.entries.indices.filter { reader.entries[$0].stored > 0 }.randomElement(using: &generator)!
            let entry = reader.entries[block]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                // Where a plane is coded: at the end.
                let offset = Int.random(in: entry.stored / 2..<entry.stored, using: &generator)
                forged[entry.offset + offset] = .random(in: 0...255, using: &generator)
            }
            let sum = forged.crc(entry.offset..<entry.offset + entry.stored)
            forged.store(sum, at: 512 + 12 * block + 4)
            forged.sealHeader()
            if (try? verify(forged, specimen.description)) == nil { refused += 1 }
        }
        print("forged blocks: \(refused) of 2,000 are refused")
        #expect(refused > 0)
    }

    @Test("an object of another model, shape or policy is a mismatch that names both")
    func otherDescription() throws {
        let specimen = try Specimen.golden()
        let file = specimen.encode(scratch).bytes.array
        let (geometry, policy) = (specimen.description.geometry, specimen.description.policy)
        func other(
            _ geometry: Geometry? = nil, _ policy: Policy? = nil, fingerprint: String = "golden é"
        ) throws -> SessionDescription {
            try SessionDescription(
                geometry: geometry ?? specimen.description.geometry, policy: policy ?? specimen.description.policy, capacity: 64,
                fingerprint: fingerprint)
        }
        let others = [
            try other(fingerprint: "golden e\u{301}"),
            try other(fingerprint: ""),
            try other(Geometry(layers: 3, heads: 2, keyDim: 24, valueDim: 17, element: .bfloat16)),
            try other(Geometry(layers: 3, heads: 2, keyDim: 24, valueDim: 16, element: .float16)),
            try other(nil, Policy(sink: 4, lag: 32, keepRatio: 0.25, valueWeight: 0.5)),
            try other(nil, Policy(sink: 4, lag: 32, keepRatio: 0.2500001, valueWeight: 0.5, uncompressedLayers: [1])),
        ]
        for description in others {
            let error = #expect(throws: CacheError.self) { try verify(file, description) }
            #expect(error?.code == .mismatch)
            #expect(error?.seen.contains("bad") == true && error?.expected.isEmpty == false)
        }
        #expect(throws: Never.self, "what forks may change does not matter") { try verify(file, try other(geometry, policy)) }
    }

    @Test("no byte of a manifest can change unseen, and no length but one is right")
    func manifests() throws {
        var file = try Manifest.golden().encoded()
        for offset in file.indices {
            for bit in 0..<8 {
                file[offset] ^= 1 << UInt8(bit)
                #expect(throws: CacheError.self, "bit \(bit) of byte \(offset)") {
                    try Manifest(parsing: file.span.bytes, path: "bad")
                }
                file[offset] ^= 1 << UInt8(bit)
            }
        }
        for length in [0, 1, 15, 16, 511, 513, 4_096] {
            let other = Array((file + [UInt8](repeating: 0, count: 4_096))[..<length])
            #expect(throws: CacheError.self) { try Manifest(parsing: other.span.bytes, path: "bad") }
        }
    }

    @Test("a forged manifest is refused or as good as any")
    func forgedManifests() throws {
        let file = try Manifest.golden().encoded()
        for seed in 0..<20_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var forged = file
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                forged[.random(in: 16..<512, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            forged.store(forged.crc(16..<512), at: 12)
            guard let manifest = try? Manifest(parsing: forged.span.bytes, path: "bad") else { continue }
            #expect(manifest.encoded() == forged, "seed \(seed)")
        }
    }
}

extension Specimen {
    /// Each part and each codec, in as few bytes as that takes.
    fileprivate static func small() throws -> Specimen {
        let geometry = try Geometry(layers: 2, heads: 1, keyDim: 16, valueDim: 8, element: .bfloat16)
        let policy = try Policy(sink: 1, lag: 24, keepRatio: 0.5, uncompressedLayers: [1])
        let description = try SessionDescription(geometry: geometry, policy: policy, capacity: 64, fingerprint: "small")
        let header = ObjectHeader.chunk(0, of: description, id: id, parent: .none, sequence: 1)
        // Some seed whose numbers compress.
        var generator = SeededGenerator(seed: 2)
        return Specimen(description, header, using: &generator)
    }
}

extension [UInt8] {
    fileprivate mutating func store(_ value: UInt32, at offset: Int) {
        for byte in 0..<4 { self[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte)) }
    }

    /// The kernel's, which FormatTests compares with the definition: forging takes many.
    fileprivate func crc(_ range: Range<Int>) -> UInt32 {
        withUnsafeBufferPointer { lagkv_crc32c(0, $0.baseAddress! + range.lowerBound, range.count) }
    }

    /// Makes the checksum of an object's header right, as far as its length is one.
    fileprivate mutating func sealHeader() {
        let count = (0..<4).reduce(0) { $0 | Int(self[16 + $1]) << (8 * $1) }
        guard (16...self.count).contains(count) else { return }
        store(crc(16..<count), at: 12)
    }
}
