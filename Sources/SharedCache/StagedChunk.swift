internal import CacheModel
internal import ChunkStore

/// A sealed chunk, whole, on its way to the disk. It answers for its tokens until its object is durable.
final class StagedChunk: Sendable {
    let number: Int
    let raw: RawChunk
    let kept: KeptOffsets
    /// Per layer: lo of all heads, then hi.
    let summaries: [UInt8]
    let header: ObjectHeader

    init(number: Int, raw: RawChunk, kept: KeptOffsets, summaries: [UInt8], header: ObjectHeader) {
        self.number = number
        self.raw = raw
        self.kept = kept
        self.summaries = summaries
        self.header = header
    }

    /// Bytes of staging room that it takes.
    var byteCount: Int { raw.byteCount }
}
