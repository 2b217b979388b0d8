internal import Glibc

/// This process among others.
extension Kernel {
    public static var processID: Int32 { getpid() }

    /// The user that this process acts as.
    public static var effectiveUser: UInt32 { geteuid() }

    /// The running kernel, as uname says it: "6.1.0-28-amd64".
    public static var release: String {
        var names = utsname()
        guard uname(&names) == 0 else { return "" }
        return withUnsafeBytes(of: names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Raises the limit of open files as far as this process may: each session held open takes a few.
    public static func raiseOpenFileLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Makes the directories that lead to `path`, those that are not there yet with `mode`.
    public static func makeDirectories(for path: String, mode: UInt32) throws(KernelError) {
        var directory = ""
        for component in path.split(separator: "/", omittingEmptySubsequences: false).dropLast() {
            directory += component + "/"
            do {
                try call("mkdir", directory) { mkdir(directory, mode) }
            } catch  where error.code == EEXIST {
                continue
            }
        }
    }
}

extension Descriptor {
    /// Opens a file, makes it if needed, and locks it until the descriptor is closed.
    /// - Throws: EWOULDBLOCK when another process holds the lock.
    public static func lock(_ path: String) throws(KernelError) -> Descriptor {
        let file = Descriptor(owning: try Kernel.call("open", path) { Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600) })
        let number = file.rawValue
        try Kernel.call("flock", path) { flock(number, LOCK_EX | LOCK_NB) }
        return file
    }
}
