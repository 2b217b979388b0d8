internal import CLinux
internal import Glibc

/// Owns one file descriptor, and closes it when it goes.
public struct Descriptor: ~Copyable, Sendable {
    /// The number, for calls; whoever keeps it longer than the owner lives holds a stranger's file.
    public let rawValue: Int32

    /// Takes over an open descriptor.
    public init(owning rawValue: Int32) {
        precondition(rawValue >= 0, "descriptor \(rawValue) is not one")
        self.rawValue = rawValue
    }

    deinit {
        // Not retried after EINTR: Linux has released the number by then, and another thread may own it.
        _ = close(rawValue)
    }

    /// Gives up ownership without closing.
    public consuming func release() -> Int32 {
        let number = rawValue
        discard self
        return number
    }

    /// A second descriptor of the same open file.
    /// - Parameter closeOnExec: false hands it down to programs that this one becomes.
    public borrowing func duplicate(closeOnExec: Bool = true) throws(KernelError) -> Descriptor {
        let original = rawValue
        return Descriptor(
            owning: try Kernel.call("dup", "\(original)") { clinux_duplicate(original, closeOnExec ? 1 : 0) })
    }

    /// Opens `path`, close-on-exec.
    /// - Parameter flags: O_RDONLY and its kind.
    package static func open(_ path: String, _ flags: Int32) throws(KernelError) -> Descriptor {
        Descriptor(owning: try Kernel.call("open", path) { clinux_open(path, flags | O_CLOEXEC) })
    }
}
