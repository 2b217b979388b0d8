internal import Glibc

/// Page-aligned memory of this process alone, for direct I/O and for work on a chunk.
///
/// Fresh memory is zero, and its first touch costs a page fault for every page: take what is used over and over from a
/// `BufferPool`. Buffers of 2 MiB and more ask for huge pages. That is not a matter of faults alone: the kernel pins
/// memory for direct I/O page by page and hands it to the disk in as many pieces, and large transfers take half the time
/// from huge pages. Traps when the address space is used up, as allocation does everywhere in Swift.
public final class AlignedBuffer: MemoryRegion, @unchecked Sendable {
    public let baseAddress: UnsafeMutableRawPointer
    /// Bytes, a multiple of `blockSize`.
    public let byteCount: Int

    /// What addresses and lengths of direct I/O are multiples of.
    public static let blockSize = 4_096
    /// Bytes of a huge page on x86-64, and on ARM with pages of 4 KiB.
    private static let hugePageSize = 2 << 20

    /// - Parameter byteCount: above 0; rounded up to a multiple of `blockSize`.
    public init(byteCount: Int) {
        precondition(byteCount > 0, "a buffer of \(byteCount) bytes")
        let byteCount = Self.roundedUp(byteCount)
        self.byteCount = byteCount
        guard byteCount >= Self.hugePageSize else {
            baseAddress = Self.map(byteCount)
            return
        }
        // Only a whole, aligned huge page can be one: map more than is needed, and give back what is before and behind.
        let address = Self.map(byteCount + Self.hugePageSize)
        let skipped = -Int(bitPattern: address) & (Self.hugePageSize - 1)
        baseAddress = address + skipped
        if skipped > 0 { munmap(address, skipped) }
        munmap(baseAddress + byteCount, Self.hugePageSize - skipped)
        // Being refused costs speed, nothing else.
        _ = madvise(baseAddress, byteCount, MADV_HUGEPAGE)
    }

    private static func map(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else { fatalError("no address space for a buffer of \(byteCount) bytes") }
        return address
    }

    deinit {
        munmap(baseAddress, byteCount)
    }

    /// The least multiple of `blockSize` that is at least `byteCount`.
    public static func roundedUp(_ byteCount: Int) -> Int { (byteCount + blockSize - 1) / blockSize * blockSize }
}
