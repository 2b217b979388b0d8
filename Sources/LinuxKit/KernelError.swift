internal import Glibc

/// What the kernel refused, of what, and why.
public struct KernelError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The system call: "memfd_create".
    public var call: String
    /// What it was asked for: a path, a size.
    public var detail: String
    /// The errno.
    public var code: Int32

    public init(call: String, detail: String = "", code: Int32) {
        self.call = call
        self.detail = detail
        self.code = code
    }

    public var description: String {
        var text = detail.isEmpty ? call : "\(call) \(detail)"
        text += ": \(Kernel.describe(errno: code))"
        if let remedy { text += "; try: \(remedy)" }
        return text
    }

    /// Whether there is nothing by that name.
    public var isNotFound: Bool { code == ENOENT }

    /// What usually helps, where one thing usually does.
    public var remedy: String? {
        switch code {
        case EMFILE: "raise this process's limit of open files (LimitNOFILE=, ulimit -n)"
        case ENFILE: "raise the machine's limit of open files (sysctl fs.file-max)"
        case ENOSPC where call == "memfd_create" || call == "ftruncate": "free shared memory, or raise the memory limit"
        case ENOSPC, EDQUOT: "free space, or lower the disk budget"
        case EROFS: "point the state directory at a filesystem that is mounted read-write"
        case ENOMEM where call == "mmap": "raise the limit of address space or of mappings (sysctl vm.max_map_count)"
        default: nil
        }
    }
}
