internal import CLinux

/// One datagram to a Unix socket.
public enum Datagram {
    /// Sends `text` to the socket at `path`; one that begins with `@` is in the abstract name space. Waits while the receiver's queue is
    /// full.
    /// - Parameter descriptors: closed here once they are sent; the receiver has duplicates.
    /// - Throws: what the kernel said: ENOENT or ECONNREFUSED when nobody receives there.
    public static func send(
        _ text: String, to path: String, with descriptors: consuming PassedDescriptors = PassedDescriptors()
    ) throws(KernelError) {
        let bytes = Array(text.utf8)
        let numbers = descriptors.numbers
        try Kernel.call("sendmsg", path) {
            bytes.withUnsafeBytes { clinux_datagram_send(path, $0.baseAddress, $0.count, numbers, Int32(numbers.count)) }
        }
        _ = consume descriptors
    }
}
