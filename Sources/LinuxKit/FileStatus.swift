internal import Glibc

/// What the kernel knows of a file.
public struct FileStatus: Sendable, Hashable {
    public var size: Int
    /// Bytes that it takes, of disk or, for a memfd, of memory.
    public var allocatedBytes: Int
    public var links: Int
    public var inode: UInt64
    public var isDirectory: Bool

    public init(of descriptor: borrowing Descriptor) throws(KernelError) {
        let number = descriptor.rawValue
        var status = stat()
        try Kernel.call("fstat") { fstat(number, &status) }
        self.init(status)
    }

    init(_ status: stat) {
        size = Int(status.st_size)
        // st_blocks counts 512 bytes, whatever the filesystem's blocks are.
        allocatedBytes = Int(status.st_blocks) * 512
        links = Int(status.st_nlink)
        inode = UInt64(status.st_ino)
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
    }
}
