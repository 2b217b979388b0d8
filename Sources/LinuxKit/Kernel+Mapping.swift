internal import Glibc

extension Kernel {
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
