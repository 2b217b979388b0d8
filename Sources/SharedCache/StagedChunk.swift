internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// A sealed chunk, whole, on its way to the disk. It answers for its tokens until its object is durable.
///
/// Its memory goes back to the pool when the last who reads it lets go.
final class StagedChunk: Sendable {
    let number: Int
    let raw: RawChunk
    let kept: KeptOffsets
    /// Per layer: lo of all heads, then hi.
    let summaries: [UInt8]
    let header: ObjectHeader
    private let pool: BufferPool

    init(number: Int, raw: RawChunk, kept: KeptOffsets, summaries: [UInt8], header: ObjectHeader, pool: BufferPool) {
        self.number = number
        self.raw = raw
        self.kept = kept
        self.summaries = summaries
        self.header = header
        self.pool = pool
    }

    deinit {
        pool.recycle(raw.buffer)
    }

    var byteCount: Int { raw.buffer.byteCount }
}
