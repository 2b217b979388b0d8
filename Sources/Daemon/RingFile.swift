internal import Glibc
internal import LinuxKit

/// An open file or socket that the ring works on. Every operation in flight holds on to it, so that its number cannot come
/// to mean another file before the kernel is done; it closes with its last holder.
final class RingFile: Sendable {
    let descriptor: Descriptor

    init(_ descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    var rawValue: Int32 { descriptor.rawValue }

    /// Ends a connection in both directions: what waits to receive sees the end, what waits to send fails.
    func disconnect() {
        _ = shutdown(rawValue, Int32(SHUT_RDWR))
    }
}
