internal import CLinux
internal import Glibc

/// An eventfd: any thread adds to it, and whoever reads it is woken.
public struct EventCounter: ~Copyable, Sendable {
    private let descriptor: Descriptor

    public init() throws(KernelError) {
        descriptor = Descriptor(owning: try Kernel.call("eventfd") { clinux_eventfd() })
    }

    public var rawValue: Int32 { descriptor.rawValue }

    /// Bytes that one read takes.
    public static let byteCount = 8

    /// Wakes the reader. From any thread.
    public func signal() {
        var one: UInt64 = 1
        // Cannot fail: the counter would have to reach 2^64 − 1 between two reads.
        _ = write(descriptor.rawValue, &one, Self.byteCount)
    }
}
