internal import CLinux
internal import Glibc

/// A sealed memfd, mapped here for reading and writing, to be handed to other processes.
///
/// It can neither shrink nor grow, so that no mapping of it, here or in a client, ever faults beyond its end; it is sparse,
/// so that its size costs nothing and only what was touched takes memory; and its file cannot be opened again by
/// another user, because its mode is 0600.
public final class SharedMemory: MemoryRegion, @unchecked Sendable {
    public let baseAddress: UnsafeMutableRawPointer
    public let byteCount: Int
    /// Nobody but this mapping can write it. Pages of such a file cannot be given back either: the kernel counts that as
    /// writing.
    public let isSealedAgainstNewWriters: Bool
    private let descriptor: Descriptor

    private init(mapping address: UnsafeMutableRawPointer, byteCount: Int, sealed: Bool, _ descriptor: consuming Descriptor) {
        baseAddress = address
        self.byteCount = byteCount
        isSealedAgainstNewWriters = sealed
        self.descriptor = descriptor
    }

    deinit {
        munmap(baseAddress, byteCount)
    }

    /// - Parameters:
    ///   - name: what /proc shows; at most 249 bytes.
    ///   - byteCount: above 0.
    ///   - sealedAgainstNewWriters: others can map it only read-only, whichever descriptor of it they hold.
    public static func create(
        name: String, byteCount: Int, sealedAgainstNewWriters: Bool = false
    ) throws(KernelError) -> SharedMemory {
        precondition(byteCount > 0, "shared memory of \(byteCount) bytes")
        let first = Descriptor(owning: try Kernel.call("memfd_create", name) { clinux_memfd_create(name) })
        // Opened again, because the kernel counts open files only where open(2) made them: `isExclusive` asks for that count.
        let descriptor = try Descriptor.open(Self.path(first), O_RDWR)
        let number = descriptor.rawValue
        try Kernel.call("fchmod", name) { fchmod(number, 0o600) }
        try Kernel.call("ftruncate", "\(name) to \(byteCount)") { ftruncate(number, byteCount) }
        let address = try Kernel.map(number, byteCount: byteCount, writable: true)
        // From here on the object owns the mapping. The seal against writers comes after our own mapping, which keeps its right.
        let memory = SharedMemory(mapping: address, byteCount: byteCount, sealed: sealedAgainstNewWriters, descriptor)
        try Kernel.call("fcntl(F_ADD_SEALS)", name) { clinux_seal(number, sealedAgainstNewWriters ? 1 : 0) }
        return memory
    }

    /// Gives the whole pages inside `range` back to the system; they read as zeros from then on, here and in every mapping.
    /// Reading them takes the memory again: the kernel fills a hole of a shared mapping also when it is only read.
    public func discard(_ range: Range<Int>) throws(KernelError) {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "discard of \(range) in \(byteCount) bytes")
        let page = Kernel.pageSize
        let begin = (range.lowerBound + page - 1) / page * page
        let end = range.upperBound / page * page
        guard begin < end else { return }
        let number = descriptor.rawValue
        try Kernel.call("fallocate(PUNCH_HOLE)", "\(begin)..<\(end)") { clinux_punch_hole(number, begin, end - begin) }
    }

    /// Takes memory for the pages that `range` touches, all at once, before they are written: half the cost of a fault for each.
    /// A kernel that cannot (before Linux 5.14) leaves it to the faults.
    public func populate(_ range: Range<Int>) {
        let page = Kernel.pageSize
        let begin = range.lowerBound / page * page
        let end = min(byteCount, (range.upperBound + page - 1) / page * page)
        guard begin < end else { return }
        _ = clinux_populate(descriptor.rawValue, begin, baseAddress + begin, end - begin)
    }

    /// Writes zeros over everything inside `range` that has memory, and keeps the memory; holes stay holes.
    public func wipe(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "a wipe of \(range) in \(byteCount) bytes")
        let number = descriptor.rawValue
        var next = range.lowerBound
        while next < range.upperBound {
            let data = clinux_next_data(number, next)
            guard data >= 0, data < range.upperBound else { return }
            next = min(range.upperBound, clinux_next_hole(number, data))
            withUnsafeMutableBytes(data..<next) { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
        }
    }

    /// Whether this object alone can reach the file: no descriptor that was handed out is open in any process, and nothing
    /// maps it through one. Once that is so it stays so until the next descriptor is handed out.
    ///
    /// The kernel's answer (fcntl(2), F_SETLEASE: a write lease is given only on a file that nobody else has open; a mapping
    /// holds its file open). A kernel that has no leases on memfds says no.
    public var isExclusive: Bool { clinux_is_exclusive(descriptor.rawValue) == 1 }

    /// Bytes of memory that the file takes now, as the kernel counts them.
    public var allocatedBytes: Int {
        get throws(KernelError) { try FileStatus(of: descriptor).allocatedBytes }
    }

    /// A descriptor for the one who may write (where the file is not sealed against that).
    public func writableDescriptor() throws(KernelError) -> Descriptor {
        // A duplicate would be the same open file, which `isExclusive` could not tell from our own.
        try Descriptor.open(Self.path(descriptor), O_RDWR)
    }

    /// A second descriptor of this object's own open file: whoever holds it does not count as another one who can reach the file.
    public func duplicateDescriptor() throws(KernelError) -> Descriptor { try descriptor.duplicate() }

    /// A descriptor through which the file can be mapped only for reading.
    public func readOnlyDescriptor() throws(KernelError) -> Descriptor {
        try Descriptor.open(Self.path(descriptor), O_RDONLY)
    }

    /// Whether the memfd of `descriptor` was made so that nobody but its maker can write it.
    public static func isSealedAgainstNewWriters(_ descriptor: borrowing Descriptor) throws(KernelError) -> Bool {
        let number = descriptor.rawValue
        return try Kernel.call("fcntl(F_GET_SEALS)") { clinux_seals(number) } & sealAgainstNewWriters != 0
    }

    /// F_SEAL_FUTURE_WRITE.
    private static let sealAgainstNewWriters: Int32 = 0x0010

    private static func path(_ descriptor: borrowing Descriptor) -> String { "/proc/self/fd/\(descriptor.rawValue)" }
}
