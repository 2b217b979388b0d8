internal import Glibc
internal import LinuxKit

/// Where the daemon's socket is looked for.
public enum SocketPath {
    /// The places to try, in order: `path` alone if given, `$LAGKVD_SOCKET` alone if set, else the user's own place and
    /// `/run/lagkvd/lagkvd.sock`. The user's own is in `$XDG_RUNTIME_DIR`, or where that is not set in `/tmp/lagkvd-UID`, if that
    /// directory is the user's: anybody can make one of that name.
    public static func candidates(path: String?) -> [String] {
        candidates(
            path: path, environment: { name in getenv(name).map { String(cString: $0) } }, user: Kernel.effectiveUser,
            ownerOfDirectory: { directory in
                var status = stat()
                return lstat(directory, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR ? status.st_uid : nil
            })
    }

    /// As above, with the process and the filesystem as parameters.
    static func candidates(
        path: String?, environment: (String) -> String?, user: UInt32, ownerOfDirectory: (String) -> UInt32?
    ) -> [String] {
        if let path { return [path] }
        if let set = environment("LAGKVD_SOCKET"), !set.isEmpty { return [set] }
        let system = "/run/lagkvd/lagkvd.sock"
        if let runtime = environment("XDG_RUNTIME_DIR"), runtime.hasPrefix("/") { return ["\(runtime)/lagkvd.sock", system] }
        let temporary = "/tmp/lagkvd-\(user)"
        return ownerOfDirectory(temporary) == user ? ["\(temporary)/lagkvd.sock", system] : [system]
    }
}
