internal import CLinux
internal import Glibc

/// Descriptor 2, where the log goes.
public enum StandardError {
    /// Writes a text whole, with one call where the kernel takes it whole, so that lines of two threads do not mix. What
    /// cannot be written is lost: there is nowhere left to say so.
    public static func write(_ text: String) {
        let bytes = Array(text.utf8)
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = try? Kernel.call("write") {
                rest.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
            }
            guard let written else { return }
            rest = rest.dropFirst(written)
        }
    }

    /// "8:131072": device and inode, as systemd names the journal's stream in JOURNAL_STREAM. Nil when it is closed.
    public static var identity: String? {
        var status = stat()
        guard fstat(STDERR_FILENO, &status) == 0 else { return nil }
        return "\(status.st_dev):\(status.st_ino)"
    }
}
