internal import Glibc

/// Where the daemon's socket is looked for.
public enum SocketPath {
    /// The places to try, in order: `path` alone if given, `$LAGKVD_SOCKET` alone if set, else
    /// `$XDG_RUNTIME_DIR/lagkvd.sock` and `/run/lagkvd/lagkvd.sock`.
    public static func candidates(path: String?) -> [String] {
        candidates(path: path) { name in getenv(name).map { String(cString: $0) } }
    }

    /// As above, with the environment as a parameter.
    static func candidates(path: String?, environment: (String) -> String?) -> [String] {
        if let path { return [path] }
        if let set = environment("LAGKVD_SOCKET"), !set.isEmpty { return [set] }
        var places: [String] = []
        if let runtime = environment("XDG_RUNTIME_DIR"), !runtime.isEmpty { places.append("\(runtime)/lagkvd.sock") }
        return places + ["/run/lagkvd/lagkvd.sock"]
    }
}
