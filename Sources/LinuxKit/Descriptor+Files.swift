internal import Glibc

/// What threads that may wait do with files and directories.
extension Descriptor {
    /// Every name in this directory but `.` and `..`, in the filesystem's order. Costs a call for each; blocks.
    /// A name that is removed meanwhile may or may not be among them.
    public consuming func entries() throws(KernelError) -> [(name: String, status: FileStatus)] {
        let number = rawValue
        guard let stream = fdopendir(number) else { throw Kernel.lastError("fdopendir") }
        // The stream owns the descriptor from here on.
        _ = release()
        defer { closedir(stream) }
        var entries: [(name: String, status: FileStatus)] = []
        while true {
            // The end and an error differ in errno alone.
            errno = 0
            guard let entry = readdir(stream) else {
                let error = Kernel.lastError("readdir")
                guard error.code == 0 else { throw error }
                return entries
            }
            let name = entry.pointer(to: \.d_name)!.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            if name == "." || name == ".." { continue }
            var status = stat()
            do {
                try Kernel.call("fstatat", name) { fstatat(number, name, &status, AT_SYMLINK_NOFOLLOW) }
            } catch let error where error.code == ENOENT {
                continue
            }
            entries.append((name, FileStatus(status)))
        }
    }

    /// Removes a file of this directory; blocks.
    public borrowing func unlink(_ name: String) throws(KernelError) {
        let number = rawValue
        try Kernel.call("unlinkat", name) { unlinkat(number, name, 0) }
    }

    /// Cuts this file to `byteCount` bytes; blocks.
    public borrowing func truncate(to byteCount: Int) throws(KernelError) {
        let number = rawValue
        try Kernel.call("ftruncate", "to \(byteCount)") { ftruncate(number, byteCount) }
    }
}
