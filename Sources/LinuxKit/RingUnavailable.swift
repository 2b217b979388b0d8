internal import CLinux
internal import Glibc

/// Why there is no ring here, and what to do about it. Nothing of lagkvd works without one.
public struct RingUnavailable: Error, Sendable, Hashable, CustomStringConvertible {
    /// What was seen: the kernel's answer.
    public var seen: String
    /// Why it usually says so.
    public var cause: String
    /// What to do.
    public var remedy: String

    public var description: String {
        "io_uring is not available: \(seen); \(cause); try: \(remedy)"
    }

    /// The kernel lacks an operation that is needed here.
    public init(missingOperation name: String) {
        seen = "the kernel has no IORING_OP_\(name)"
        cause = "it is too old, or a sandbox hides it"
        remedy = "Linux 6.1 or later"
    }

    /// - Parameters:
    ///   - code: the errno of io_uring_setup.
    ///   - disabled: the setting kernel.io_uring_disabled, nil where the kernel has none (before Linux 6.6).
    ///   - lockedMemoryLimit: bytes that may be locked, nil for no limit.
    public init(
        code: Int32, disabled: Int? = Self.disabledSetting, lockedMemoryLimit: UInt64? = Self.lockedMemoryLimit
    ) {
        seen = "io_uring_setup answered \(Kernel.describe(errno: code))"
        if let disabled { seen += ", kernel.io_uring_disabled is \(disabled)" }
        switch (code, disabled) {
        case (EPERM, 2):
            cause = "this machine forbids io_uring to everybody"
            remedy = "sysctl -w kernel.io_uring_disabled=0"
        case (EPERM, 1):
            cause = "this machine allows io_uring only to the group kernel.io_uring_group and to CAP_SYS_ADMIN"
            remedy = "add the daemon's user to that group, or sysctl -w kernel.io_uring_disabled=0"
        case (EPERM, _), (EACCES, _):
            cause = "a seccomp filter forbids it, as containers' default profiles do"
            remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"
        case (ENOSYS, _):
            cause = "the kernel was built without io_uring, or a sandbox hides it"
            remedy = "Linux 6.1 or later with CONFIG_IO_URING, outside of gVisor and the like"
        case (ENOMEM, _):
            cause = "the ring's memory counts as locked, and \(Self.words(for: lockedMemoryLimit)) may be locked"
            remedy = "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited"
        case (EMFILE, _), (ENFILE, _):
            cause = "too many files are open"
            remedy = "raise the limit of open files (LimitNOFILE=, ulimit -n)"
        default:
            cause = "the kernel refuses the ring"
            remedy = "Linux 6.1 or later"
        }
    }

    /// The setting kernel.io_uring_disabled: 0 for everybody, 1 for a group, 2 for nobody; nil where there is none.
    public static var disabledSetting: Int? {
        guard let file = try? Descriptor.open("/proc/sys/kernel/io_uring_disabled", O_RDONLY) else { return nil }
        return withUnsafeTemporaryAllocation(byteCount: 16, alignment: 1) { bytes in
            let count = read(file.rawValue, bytes.baseAddress, bytes.count)
            let digits = bytes.prefix(max(count, 0)).prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            return Int(String(decoding: digits, as: UTF8.self))
        }
    }

    /// Bytes that this process may lock, nil for no limit.
    public static var lockedMemoryLimit: UInt64? {
        let limit = clinux_memlock_limit()
        return limit == .max ? nil : limit
    }

    private static func words(for limit: UInt64?) -> String {
        limit.map { "only \($0) bytes" } ?? "any amount"
    }
}
