internal import Glibc

/// Page-aligned memory of this process alone, for direct I/O and for work on a chunk.
///
/// Fresh memory is zero, and its first touch costs a page fault for every 4 KiB: take what is used over and over from a
/// `BufferPool`. Traps when the address space is used up, as allocation does everywhere in Swift.
public final class AlignedBuffer: MemoryRegion, @unchecked Sendable {
    public let baseAddress: UnsafeMutableRawPointer
    /// Bytes, a multiple of `blockSize`.
    public let byteCount: Int

    /// What addresses and lengths of direct I/O are multiples of.
    public static let blockSize = 4_096

    /// - Parameter byteCount: above 0; rounded up to a multiple of `blockSize`.
    public init(byteCount: Int) {
        precondition(byteCount > 0, "a buffer of \(byteCount) bytes")
        self.byteCount = Self.roundedUp(byteCount)
        let address = mmap(nil, self.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else { fatalError("no address space for a buffer of \(byteCount) bytes") }
        baseAddress = address
    }

    deinit {
        munmap(baseAddress, byteCount)
    }

    /// The least multiple of `blockSize` that is at least `byteCount`.
    public static func roundedUp(_ byteCount: Int) -> Int { (byteCount + blockSize - 1) / blockSize * blockSize }
}
