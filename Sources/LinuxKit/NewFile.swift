internal import Glibc

/// A file that appears under its name whole or not at all: written beside it under another name, synced, renamed. Blocks.
public struct NewFile: ~Copyable {
    public let path: String
    private let descriptor: Descriptor
    private var isFinished = false

    private var partialPath: String { "\(path).partial" }

    /// - Parameter mode: permission bits, less the umask.
    public init(path: String, mode: UInt32 = 0o666) throws(KernelError) {
        self.path = path
        let partialPath = "\(path).partial"
        let number = try Kernel.call("open", partialPath) { open(partialPath, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode) }
        descriptor = Descriptor(owning: number)
    }

    deinit {
        if !isFinished { _ = unlink(partialPath) }
    }

    public mutating func append(_ bytes: RawSpan) throws(KernelError) {
        let number = descriptor.rawValue
        var written = 0
        while written < bytes.byteCount {
            let rest = bytes.extracting(written..<bytes.byteCount)
            written += try Kernel.call("write", partialPath) { rest.withUnsafeBytes { write(number, $0.baseAddress, $0.count) } }
        }
    }

    /// Gives the file its name, over whatever had it.
    public consuming func finish() throws(KernelError) {
        let number = descriptor.rawValue
        try Kernel.call("fsync", partialPath) { fsync(number) }
        try Kernel.call("rename", path) { rename(partialPath, path) }
        isFinished = true
    }
}
