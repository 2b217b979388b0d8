internal import CLinux

/// One datagram to a Unix socket.
public enum Datagram {
    /// Sends `text` to the socket at `path`; one that begins with `@` is in the abstract name space.
    /// - Throws: what the kernel said: ENOENT or ECONNREFUSED when nobody receives there.
    public static func send(_ text: String, to path: String) throws(KernelError) {
        let bytes = Array(text.utf8)
        try Kernel.call("sendto", path) { bytes.withUnsafeBytes { clinux_datagram_send(path, $0.baseAddress, $0.count) } }
    }
}
