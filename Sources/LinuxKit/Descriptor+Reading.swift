internal import Glibc

extension Descriptor {
    /// Reads the file from its beginning into `buffer`, as far as either goes; blocks.
    /// - Returns: bytes read.
    public borrowing func read(into buffer: AlignedBuffer) throws(KernelError) -> Int {
        let number = rawValue
        var filled = 0
        while filled < buffer.byteCount {
            let count = try Kernel.call("pread") {
                pread(number, buffer.baseAddress + filled, buffer.byteCount - filled, filled)
            }
            if count == 0 { break }
            filled += count
        }
        return filled
    }
}
