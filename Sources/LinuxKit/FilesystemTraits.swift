internal import Glibc

/// What the filesystem under a directory can do, found out by doing it.
public struct FilesystemTraits: Sendable, Hashable {
    /// Files without a name (O_TMPFILE) that are named once they are whole. Without them a hidden name stands in.
    public var hasUnnamedFiles: Bool
    /// Reads and writes go past the page cache (O_DIRECT), in blocks of 4,096 bytes.
    public var usesDirectIO: Bool
    /// A sentence for each thing that is missing: what was seen, and what it means.
    public var remarks: [String] = []

    public init(hasUnnamedFiles: Bool, usesDirectIO: Bool) {
        self.hasUnnamedFiles = hasUnnamedFiles
        self.usesDirectIO = usesDirectIO
    }

    /// Tries everything in `directory`, and leaves nothing there. Blocks.
    /// - Throws: what keeps even a plain file from being written: EACCES, EROFS, ENOSPC.
    public static func probe(_ directory: borrowing Descriptor) throws(KernelError) -> FilesystemTraits {
        var traits = FilesystemTraits(hasUnnamedFiles: true, usesDirectIO: true)
        do {
            _ = try directory.open(".", .unnamed)
        } catch let error where [EOPNOTSUPP, EISDIR, EINVAL, ENOSYS].contains(error.code) {
            traits.hasUnnamedFiles = false
            traits.remarks.append(
                "the filesystem has no unnamed files (\(Kernel.describe(errno: error.code))): "
                    + "a crash may leave hidden ones, which the next start removes")
        }
        do {
            try traits.tryDirectWrite(in: directory)
        } catch let error where [EINVAL, EOPNOTSUPP, ENOTSUP].contains(error.code) {
            traits.usesDirectIO = false
            traits.remarks.append(
                "the filesystem refuses direct I/O (\(error.call): \(Kernel.describe(errno: error.code))): "
                    + "reads and writes go through the page cache, and take memory there")
        }
        return traits
    }

    private func tryDirectWrite(in directory: borrowing Descriptor) throws(KernelError) {
        let buffer = AlignedBuffer(byteCount: AlignedBuffer.blockSize)
        let name = ".lagkvd-probe-\(getpid())"
        let file: Descriptor
        if hasUnnamedFiles {
            file = try directory.open(".", .unnamed, direct: true)
        } else {
            file = try directory.open(name, .new, direct: true)
            try directory.unlink(name)
        }
        let number = file.rawValue
        try Kernel.call("write") { pwrite(number, buffer.baseAddress, buffer.byteCount, 0) }
    }
}
