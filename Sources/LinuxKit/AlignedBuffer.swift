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

    /// Where the memory goes when nobody holds the buffer any more; nil: back to the system.
    private let home: BufferPool?

    /// - Parameter byteCount: above 0; rounded up to a multiple of `blockSize`.
    public convenience init(byteCount: Int) {
        precondition(byteCount > 0, "a buffer of \(byteCount) bytes")
        let byteCount = Self.roundedUp(byteCount)
        self.init(owning: Self.allocate(byteCount), byteCount: byteCount, home: nil)
    }

    init(owning address: UnsafeMutableRawPointer, byteCount: Int, home: BufferPool?) {
        baseAddress = address
        self.byteCount = byteCount
        self.home = home
    }

    static func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer {
        guard byteCount >= hugePageSize else { return map(byteCount) }
        // Only a whole, aligned huge page can be one: map more than is needed, and give back what is before and behind.
        let address = map(byteCount + hugePageSize)
        let skipped = -Int(bitPattern: address) & (hugePageSize - 1)
        let aligned = address + skipped
        if skipped > 0 { munmap(address, skipped) }
        munmap(aligned + byteCount, hugePageSize - skipped)
        // Being refused costs speed, nothing else.
        _ = madvise(aligned, byteCount, MADV_HUGEPAGE)
        return aligned
    }

    static func free(_ address: UnsafeMutableRawPointer, _ byteCount: Int) {
        munmap(address, byteCount)
    }

    private static func map(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else { fatalError("no address space for a buffer of \(byteCount) bytes") }
        return address
    }

    deinit {
        if let home { home.keep(baseAddress, byteCount) } else { Self.free(baseAddress, byteCount) }
    }

    /// The least multiple of `blockSize` that is at least `byteCount`.
    public static func roundedUp(_ byteCount: Int) -> Int { (byteCount + blockSize - 1) / blockSize * blockSize }
}
