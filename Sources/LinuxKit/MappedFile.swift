internal import CLinux
internal import Glibc

/// A file that was received from another process, mapped whole.
///
/// The one who maps it must know that it cannot shrink, or reads beyond its end kill the process: `requireSealed` checks.
public final class MappedFile: MemoryRegion, @unchecked Sendable {
    /// With a read-only mapping, writing here kills the process.
    public let baseAddress: UnsafeMutableRawPointer
    /// Bytes of the mapping, which are the file's.
    public let byteCount: Int
    public let isWritable: Bool

    /// - Parameters:
    ///   - descriptor: closed or not afterwards, as the caller likes: the mapping stays.
    ///   - writable: asks for the right to write; EACCES or EPERM where the descriptor or a seal forbids it.
    ///   - requireSealed: refuses (EINVAL) a file that its owner could still shrink.
    public init(_ descriptor: borrowing Descriptor, writable: Bool, requireSealed: Bool = true) throws(KernelError) {
        let number = descriptor.rawValue
        if requireSealed {
            let seals = try Kernel.call("fcntl(F_GET_SEALS)") { clinux_seals(number) }
            guard seals & Self.sealAgainstShrinking != 0 else {
                throw KernelError(call: "fcntl(F_GET_SEALS)", detail: "no seal against shrinking", code: EINVAL)
            }
        }
        byteCount = try FileStatus(of: descriptor).size
        guard byteCount > 0 else { throw KernelError(call: "mmap", detail: "an empty file", code: EINVAL) }
        baseAddress = try Kernel.map(number, byteCount: byteCount, writable: writable)
        isWritable = writable
    }

    deinit {
        munmap(baseAddress, byteCount)
    }

    /// Takes the memory for the pages of `range` at once, which costs about two thirds of taking it page by page while they are
    /// written. Only advice: a kernel that does not know it (before Linux 5.14), or has no memory left, does nothing.
    public func prefault(_ range: Range<Int>) {
        precondition(
            isWritable && range.lowerBound >= 0 && range.upperBound <= byteCount, "prefault of \(range) in \(byteCount) bytes")
        let first = range.lowerBound / Kernel.pageSize * Kernel.pageSize
        _ = madvise(baseAddress + first, range.upperBound - first, Self.populateForWriting)
    }

    /// MADV_POPULATE_WRITE.
    private static let populateForWriting: Int32 = 23

    /// F_SEAL_SHRINK.
    private static let sealAgainstShrinking: Int32 = 0x0002
}
