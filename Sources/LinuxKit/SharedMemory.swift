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
        let descriptor = Descriptor(owning: try Kernel.call("memfd_create", name) { clinux_memfd_create(name) })
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
    /// A kernel that cannot leaves it to the faults.
    public func populate(_ range: Range<Int>) {
        let page = Kernel.pageSize
        let begin = range.lowerBound / page * page
        let end = min(byteCount, (range.upperBound + page - 1) / page * page)
        guard begin < end else { return }
        _ = clinux_populate(baseAddress + begin, end - begin)
    }

    /// Bytes of memory that the file takes now, as the kernel counts them.
    public var allocatedBytes: Int {
        get throws(KernelError) { try FileStatus(of: descriptor).allocatedBytes }
    }

    /// A descriptor for the one who may write (where the file is not sealed against that).
    public func writableDescriptor() throws(KernelError) -> Descriptor {
        try descriptor.duplicate()
    }

    /// A descriptor through which the file can be mapped only for reading.
    public func readOnlyDescriptor() throws(KernelError) -> Descriptor {
        // A duplicate would share the access mode; only opening it again gives another one.
        try Descriptor.open("/proc/self/fd/\(descriptor.rawValue)", O_RDONLY)
    }
}
