import CacheModel
import ChunkStore
import LinuxKit
import Testing

@Suite("objects give back what they were made from")
struct RoundTripTests {
    let scratch = CodecScratch()

    @Test(
        "any tokens, any choice of kept ones, every dtype: the same bits come back",
        arguments: ElementType.allCases, ObjectHeader.Kind.allCases)
    func anyObject(element: ElementType, kind: ObjectHeader.Kind) throws {
        for seed in 0..<60 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let specimen = try Specimen.random(element, kind, using: &generator)
            let object = specimen.encode(scratch)
            let comment = Comment("seed \(seed), \(specimen.header)")
            #expect(object.byteCount <= ObjectEncoder.byteBound(for: specimen.header), comment)
            let index = try ObjectIndex(object, expecting: specimen.description)
            #expect(index.header == specimen.header, comment)
            let chunk = try index.decodeChunk(object.bytes, scratch: scratch)
            let (seen, meant) = (chunk.buffer, specimen.chunk.buffer)
            #expect(seen.bytes(0..<specimen.chunkBytes).array == meant.bytes(0..<specimen.chunkBytes).array, comment)
            try checkParts(specimen, object, index, comment)
            _ = try ObjectVerifier.verify(object.bytes, path: "specimen", expecting: specimen.description, scratch: scratch)
        }
    }

    /// Each part by itself, as resume and recall read them.
    private func checkParts(_ specimen: Specimen, _ object: EncodedObject, _ index: ObjectIndex, _ comment: Comment) throws {
        let (geometry, header, file) = (specimen.header.geometry, specimen.header, object.buffer)
        var offsets = KeptOffsets(for: header)
        for layer in 0..<geometry.layers {
            let kept = file.bytes(index.keptRange(layer: layer))
            try index.decodeOffsets(layer: layer, from: kept, into: &offsets)
            let summaryBytes = specimen.summaries.count / geometry.layers
            #expect(
                try index.summaries(layer: layer, in: kept).array
                    == Array(specimen.summaries[layer * summaryBytes..<(layer + 1) * summaryBytes]), comment)
            let count = index.keptCount(layer: layer)
            // A stride longer than the rows: what lies between heads must not be touched.
            let (keyStride, valueStride) = (count * geometry.keyBytes + 5, count * geometry.valueBytes + 3)
            let (keys, values) = (Fresh(geometry.heads * keyStride), Fresh(geometry.heads * valueStride))
            try index.decodeKept(
                layer: layer, from: kept, keys: keys.all, keyStride: keyStride, values: values.all, valueStride: valueStride,
                scratch: scratch)
            for head in 0..<geometry.heads {
                let chosen = specimen.kept.offsets(layer: layer, head: head).array.map(Int.init)
                #expect(
                    keys.row(head * keyStride, keyStride) == specimen.rows(chosen, layer, head, values: false)
                        + Fresh.untouched(5))
                #expect(
                    values.row(head * valueStride, valueStride) == specimen.rows(chosen, layer, head, values: true)
                        + Fresh.untouched(3))
                try checkEvicted(specimen, object, index, layer, head, chosen)
            }
        }
        #expect(offsets == specimen.kept, comment)
        let tokens = specimen.chunk.buffer
        #expect(try index.ids(in: file.bytes(index.idsRange)).array == tokens.bytes(specimen.chunk.ids).array, comment)
    }

    private func checkEvicted(
        _ specimen: Specimen, _ object: EncodedObject, _ index: ObjectIndex, _ layer: Int, _ head: Int, _ kept: [Int]
    ) throws {
        let (geometry, file) = (specimen.header.geometry, object.buffer)
        let evicted = (0..<specimen.header.tokenCount).filter { !kept.contains($0) }
        #expect(evicted.count == index.evictedCount(layer: layer))
        let (keys, values) = (Fresh(evicted.count * geometry.keyBytes), Fresh(evicted.count * geometry.valueBytes))
        try index.decodeEvicted(
            layer: layer, head: head, from: file.bytes(index.evictedRange(layer: layer, head: head)), keys: keys.all,
            values: values.all, scratch: scratch)
        #expect(keys.row(0, keys.count) == specimen.rows(evicted, layer, head, values: false))
        #expect(values.row(0, values.count) == specimen.rows(evicted, layer, head, values: true))
    }

    @Test("a used buffer and a new one give the same file")
    func usedBuffer() throws {
        var generator = SeededGenerator(seed: 3)
        let specimen = try Specimen.random(.bfloat16, .chunk, using: &generator)
        let used = AlignedBuffer(byteCount: ObjectEncoder.byteBound(for: specimen.header))
        var bytes = used.mutableBytes(0..<used.byteCount)
        for offset in 0..<bytes.byteCount { bytes.storeBytes(of: 0xA5, toByteOffset: offset, as: UInt8.self) }
        let (first, second) = (specimen.encode(scratch), specimen.encode(scratch, into: used))
        #expect(first.bytes.array == second.bytes.array)
    }

    @Test("an empty window is a header")
    func emptyWindow() throws {
        var generator = SeededGenerator(seed: 1)
        let description = try Specimen.random(.float16, .window, using: &generator).description
        let header = ObjectHeader.window(
            after: 2, tokenCount: 0, of: description, id: Specimen.id, parent: Specimen.parent, sequence: 1)
        let object = Specimen(description, header, using: &generator).encode(scratch)
        #expect(object.byteCount == ObjectIndex.headerByteCount(for: description.geometry))
        let index = try ObjectIndex(object, expecting: description)
        #expect(index.keptRange.isEmpty && index.evictedRange.isEmpty)
    }

    @Test("threads share a scratch")
    func manyThreads() async throws {
        await withTaskGroup(of: Void.self) { group in
            for seed in 0..<8 as Range<UInt64> {
                group.addTask { [scratch] in
                    var generator = SeededGenerator(seed: seed)
                    for _ in 0..<20 {
                        let specimen = try! Specimen.random(.bfloat16, .chunk, using: &generator)
                        let object = specimen.encode(scratch)
                        #expect(throws: Never.self) {
                            try ObjectVerifier.verify(object.bytes, path: "specimen", expecting: nil, scratch: scratch)
                        }
                    }
                }
            }
        }
    }
}

/// Memory whose every byte is known before it is decoded to.
private struct Fresh {
    let count: Int
    let buffer: AlignedBuffer

    init(_ count: Int) {
        self.count = count
        buffer = AlignedBuffer(byteCount: max(1, count))
        var bytes = buffer.mutableBytes(0..<buffer.byteCount)
        for offset in 0..<bytes.byteCount { bytes.storeBytes(of: 0xEE, toByteOffset: offset, as: UInt8.self) }
    }

    static func untouched(_ count: Int) -> [UInt8] { Array(repeating: 0xEE, count: count) }

    var all: MutableRawSpan {
        @_lifetime(borrow self)
        get { buffer.mutableBytes(0..<count) }
    }

    func row(_ start: Int, _ count: Int) -> [UInt8] { buffer.bytes(start..<start + count).array }
}

extension Specimen {
    /// The rows of `tokens`, one after the other.
    fileprivate func rows(_ tokens: [Int], _ layer: Int, _ head: Int, values: Bool) -> [UInt8] {
        let start = (values ? chunk.values(layer: layer, head: head) : chunk.keys(layer: layer, head: head)).lowerBound
        let rowBytes = values ? chunk.geometry.valueBytes : chunk.geometry.keyBytes
        return tokens.flatMap { token in
            chunk.buffer.withUnsafeBytes(start + token * rowBytes..<start + (token + 1) * rowBytes) { Array($0) }
        }
    }
}
