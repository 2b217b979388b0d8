internal import Glibc

extension Kernel {
    struct FileStatus {
        var size: Int
        var allocatedBytes: Int
    }

    static func status(of descriptor: Int32) throws(KernelError) -> FileStatus {
        var status = stat()
        try call("fstat", "\(descriptor)") { fstat(descriptor, &status) }
        // st_blocks counts 512 bytes, whatever the filesystem's blocks are.
        return FileStatus(size: Int(status.st_size), allocatedBytes: Int(status.st_blocks) * 512)
    }

    /// Maps a file whole and shared. No swap is reserved: a sparse file is far larger than what is ever touched.
    static func map(_ descriptor: Int32, byteCount: Int, writable: Bool) throws(KernelError) -> UnsafeMutableRawPointer {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        // mmap fails with MAP_FAILED, which is -1 as a number.
        let address = try call("mmap", "\(byteCount) bytes") {
            Int(bitPattern: mmap(nil, byteCount, protection, MAP_SHARED | MAP_NORESERVE, descriptor, 0))
        }
        // Safe: mmap without MAP_FIXED does not answer the null address.
        return UnsafeMutableRawPointer(bitPattern: address)!
    }
}
