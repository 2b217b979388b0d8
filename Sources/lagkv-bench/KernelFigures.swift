internal import CacheModel
internal import ChunkStore
internal import LagKV
internal import LinuxKit

/// What one thread does without a daemon: scoring and coding, on buffers larger than any cache.
struct KernelFigures {
    let sample: SampleKV

    private static let chunks = 32
    private static let policy = try! Policy(sink: 16, lag: 128, keepRatio: 0.125)

    func measure(against limits: MachineLimits, into report: inout Report) {
        measureScoring(against: limits, into: &report)
        measureCodec(SampleKV.llama, "Llama shape", into: &report)
        measureCodec(SampleKV.smol, "SmolLM2 shape", into: &report)
    }

    private func measureScoring(against limits: MachineLimits, into report: inout Report) {
        let (geometry, policy) = (SampleKV.llama, Self.policy)
        let tokens = (Self.chunks / 2 + 1) * policy.lag
        let (keys, values) = sample.tensors(geometry, tokens: tokens)
        let headBytes = tokens * geometry.keyBytes
        let chunkBytes = policy.lag * geometry.keyBytes
        var scorer = ChunkScorer(geometry: geometry, policy: policy)
        var kept = [UInt32](repeating: 0, count: policy.keptPerChunk)
        let (lowest, highest) = (AlignedBuffer(byteCount: geometry.keyBytes), AlignedBuffer(byteCount: geometry.keyBytes))
        func score() {
            for row in 0..<geometry.layers * geometry.heads {
                for chunk in 0..<tokens / policy.lag - 1 {
                    let start = row * headBytes + chunk * chunkBytes
                    let (own, next) = (start..<start + chunkBytes, start + chunkBytes..<start + 2 * chunkBytes)
                    var keptSpan = kept.mutableSpan
                    var lo = lowest.mutableBytes(0..<geometry.keyBytes)
                    var hi = highest.mutableBytes(0..<geometry.keyBytes)
                    _ = scorer.select(
                        keys: keys.bytes(own), values: values.bytes(own), nextKeys: keys.bytes(next), nextValues: values.bytes(next),
                        ahead: keys.bytes(next.upperBound..<min(next.upperBound + chunkBytes, (row + 1) * headBytes)), kept: &keptSpan, lo: &lo, hi: &hi)
                }
            }
        }
        let best = Stopwatch.inTurn(5, limit: { limits.read() }, figure: { Stopwatch.seconds(score) })
        let scored = Double(geometry.layers * geometry.heads * (tokens / policy.lag - 1) * 2 * chunkBytes)
        report.add(
            Figure(
                name: "score + select, one thread, of KV", value: scored / 1e9 / best.figure, unit: "GB/s", limit: MachineLimits.gbs(best.limit),
                limitName: "plain read", floor: Figure.atLeast(0.2), aim: Figure.atLeast(0.5)))
    }

    private func measureCodec(_ geometry: Geometry, _ shape: String, into report: inout Report) {
        let description = try! SessionDescription(geometry: geometry, policy: Self.policy, capacity: 1 << 16, fingerprint: "bench")
        let lag = Self.policy.lag
        let (keys, values) = sample.tensors(geometry, tokens: lag)
        let header = ObjectHeader.chunk(
            1, of: description, id: ObjectID(high: 1, low: 1), parent: ObjectID(high: 1, low: 2), sequence: 1)
        let raw = RawChunk(
            geometry: geometry, firstPosition: header.firstPosition, tokenCount: lag,
            buffer: AlignedBuffer(byteCount: RawChunk.byteCount(geometry: geometry, tokenCount: lag)))
        for layer in 0..<geometry.layers {
            let (keyBytes, valueBytes) = (raw.keys(layer: layer), raw.values(layer: layer))
            raw.buffer.copy(layer * keyBytes.count..<(layer + 1) * keyBytes.count, of: keys, to: keyBytes.lowerBound)
            raw.buffer.copy(layer * valueBytes.count..<(layer + 1) * valueBytes.count, of: values, to: valueBytes.lowerBound)
        }
        var kept = KeptOffsets(for: header)
        for layer in 0..<geometry.layers {
            for head in 0..<geometry.heads {
                var offsets = kept.mutableOffsets(layer: layer, head: head)
                // Every eighth token: which ones does not matter to the codec.
                for index in offsets.indices { offsets[index] = UInt32(8 * index + head % 8) }
            }
        }
        let summaries = [UInt8](repeating: 0, count: 2 * geometry.layers * geometry.heads * geometry.keyBytes)
        let scratch = CodecScratch()
        let target = AlignedBuffer(byteCount: ObjectEncoder.byteBound(for: header))
        func encode() -> EncodedObject {
            ObjectEncoder.encode(raw, kept: kept, summaries: summaries, header: header, scratch: scratch, into: target)
        }
        let bytes = Double(lag * geometry.tokenBytes)
        let object = encode()
        report.add(
            Figure(
                name: "codec ratio, whole objects, \(shape)", value: bytes / Double(object.byteCount), unit: "×",
                floor: Figure.atLeast(1.44), aim: Figure.atLeast(1.46)))
        let encoding = Stopwatch.best(of: 20) { consume(encode()) }
        report.add(
            Figure(name: "encode, one thread, of KV, \(shape)", value: bytes / 1e9 / encoding, unit: "GB/s", aim: Figure.atLeast(1)))
        let back = AlignedBuffer(byteCount: raw.buffer.byteCount)
        let decoding = Stopwatch.best(of: 20) {
            let stored = object.buffer
            consume(try! object.index.decodeChunk(stored.bytes(0..<object.byteCount), into: back, scratch: scratch))
        }
        report.add(
            Figure(name: "decode, one thread, of KV, \(shape)", value: bytes / 1e9 / decoding, unit: "GB/s", aim: Figure.atLeast(3)))
        report.add(
            Figure(
                name: "decode, a thread a core, of KV, \(shape)", value: decodingEverywhere(object, bytes, scratch), unit: "GB/s"))
    }

    /// GB/s of KV when every core decodes: with the disk's own speed the limit of a full view.
    private func decodingEverywhere(_ object: EncodedObject, _ bytes: Double, _ scratch: CodecScratch) -> Double {
        let (rounds, cores) = (20, Kernel.coreCount)
        let targets = (0..<cores).map { _ in AlignedBuffer(byteCount: RawChunk.byteCount(geometry: object.header.geometry, tokenCount: object.header.tokenCount)) }
        let seconds = Stopwatch.best(of: 3) {
            let threads = targets.enumerated().map { index, target in
                KernelThread(name: "decode-\(index)") {
                    let stored = object.buffer
                    for _ in 0..<rounds {
                        consume(try! object.index.decodeChunk(stored.bytes(0..<object.byteCount), into: target, scratch: scratch))
                    }
                }
            }
            for thread in threads { thread.join() }
        }
        return bytes * Double(rounds * cores) / 1e9 / seconds
    }
}
