public import LinuxKit

/// Memory for what is read: a place in a larger buffer or, for what is larger than expected, a buffer of its own.
///
/// The larger buffer is there for speed: the disk is read at its full rate only into huge pages.
public struct ReadPlace: Sendable {
    let buffer: AlignedBuffer
    let range: Range<Int>
    let pool: BufferPool

    /// - Parameters:
    ///   - range: where in `buffer` the place is; it begins and ends with a block.
    ///   - pool: where memory comes from that the place does not have.
    public init(_ buffer: AlignedBuffer, _ range: Range<Int>, _ pool: BufferPool) {
        self.buffer = buffer
        self.range = range
        self.pool = pool
    }

    /// The place without its first `byteCount` bytes, which are in whole blocks and at most all.
    public func dropFirst(_ byteCount: Int) -> ReadPlace {
        ReadPlace(buffer, range.lowerBound + byteCount..<range.upperBound, pool)
    }

    /// Memory for `byteCount` bytes: a buffer, and where in it they begin.
    func room(_ byteCount: Int) -> (buffer: AlignedBuffer, offset: Int) {
        byteCount <= range.count ? (buffer, range.lowerBound) : (pool.take(byteCount: byteCount), 0)
    }
}
