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

    /// Copies `bytes` to those from `target` on, past the caches: the target is not read first, which for much memory nearly
    /// halves the time, and what the caches hold stays there. For what another process reads.
    public func copyPastCaches(_ bytes: RawSpan, to target: Int) {
        let place = address(target..<target + bytes.byteCount)
        bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { clinux_copy_past_caches(place, base, source.count) }
        }
    }

    /// F_SEAL_SHRINK.
    private static let sealAgainstShrinking: Int32 = 0x0002
}
