internal import CLinux
internal import Glibc

/// Signals as something to read. They are blocked in the thread that makes it and in those it starts later: make it first.
public struct SignalDescriptor: ~Copyable, Sendable {
    private let descriptor: Descriptor

    public init(_ signals: [Int32]) throws(KernelError) {
        descriptor = Descriptor(
            owning: try Kernel.call("signalfd", "\(signals)") { clinux_signalfd(signals, Int32(signals.count)) })
    }

    /// Gives up the object for its descriptor.
    public consuming func takeDescriptor() -> Descriptor { descriptor }

    /// Bytes that one read gives.
    public static let byteCount = clinux_signal_byte_count()

    /// The signal's number in what was read.
    public static func number(in bytes: UnsafeRawBufferPointer) -> Int32 {
        precondition(bytes.count >= byteCount, "a signal of \(bytes.count) bytes")
        return clinux_signal_number(bytes.baseAddress)
    }
}
