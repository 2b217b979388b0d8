internal import CLinux
internal import Glibc

/// A Unix stream socket: one end of a connection, or a listening one. Closed when it goes.
///
/// Its calls block the thread. The daemon makes, listens and adopts with it, and does everything else on the ring.
public struct UnixSocket: ~Copyable, Sendable {
    private let descriptor: Descriptor

    public init(owning descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    public var rawValue: Int32 { descriptor.rawValue }

    /// Gives up the socket for its descriptor.
    public consuming func takeDescriptor() -> Descriptor { descriptor }

    /// Connects to whoever listens at `path`.
    /// - Throws: ENOENT or ECONNREFUSED when nobody does; EACCES when the socket's mode forbids it.
    public static func connect(to path: String) throws(KernelError) -> UnixSocket {
        let socket = try make()
        let number = socket.rawValue
        do {
            try Kernel.call("connect", path) { clinux_unix_connect(number, path) }
        } catch let error where error.code == EISCONN {
            // A signal cut the call short, yet it had connected.
        }
        return socket
    }

    private static func make() throws(KernelError) -> UnixSocket {
        UnixSocket(owning: Descriptor(owning: try Kernel.call("socket") { clinux_unix_socket() }))
    }
}

/// The listening side.
extension UnixSocket {
    /// Listens at `path`. A socket file that an earlier daemon left behind, and nobody answers at, is replaced.
    /// - Parameter mode: who may connect, as permission bits of the socket file.
    /// - Throws: EADDRINUSE when somebody answers there; EEXIST when something is there that is not a socket.
    public static func listen(at path: String, backlog: Int32 = 256, mode: UInt32 = 0o600) throws(KernelError) -> UnixSocket {
        let socket = try make()
        let number = socket.rawValue
        do {
            try Kernel.call("bind", path) { clinux_unix_bind(number, path) }
        } catch let error where error.code == EADDRINUSE {
            try removeStale(path)
            try Kernel.call("bind", path) { clinux_unix_bind(number, path) }
        }
        // Nobody can connect before `listen`, so the mode is right from the first connection on.
        try Kernel.call("chmod", path) { chmod(path, mode) }
        try Kernel.call("listen", path) { Glibc.listen(number, backlog) }
        return socket
    }

    /// Removes the socket at `path` if nobody listens there.
    ///
    /// A daemon that was killed seems to listen for a little longer: its ring holds the socket until the kernel has dismantled
    /// it, after the process is gone. So what answers is asked again before it counts as alive.
    private static func removeStale(_ path: String) throws(KernelError) {
        var status = stat()
        try Kernel.call("lstat", path) { lstat(path, &status) }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw KernelError(call: "bind", detail: path, code: EEXIST) }
        for _ in 0..<attemptsToReachListener {
            do {
                _ = try connect(to: path)
            } catch let error where error.code == ECONNREFUSED {
                try Kernel.call("unlink", path) { unlink(path) }
                return
            }
            usleep(50_000)
        }
        throw KernelError(call: "bind", detail: "\(path) (another process answers there)", code: EADDRINUSE)
    }

    /// Two seconds in all; a ring is gone in milliseconds, but on a machine that has nothing else to do.
    private static let attemptsToReachListener = 40

    /// Takes over a listening socket that this process was started with (socket activation).
    /// - Throws: ENOTSOCK when it is not a listening Unix stream socket.
    public init(adoptingListener descriptor: consuming Descriptor) throws(KernelError) {
        let number = descriptor.rawValue
        guard clinux_is_unix_listener(number) == 1 else {
            throw KernelError(call: "listen", detail: "inherited descriptor \(number)", code: ENOTSOCK)
        }
        // The service manager leaves it non-blocking, and then an accept on the ring fails instead of waiting.
        try Kernel.call("fcntl", "\(number)") { clinux_set_blocking(number) }
        self.init(owning: descriptor)
    }
}

/// The process at the other end, as of when it connected.
public struct Peer: Sendable, Hashable {
    public var process: Int32
    public var user: UInt32
    public var group: UInt32

    public init(process: Int32, user: UInt32, group: UInt32) {
        self.process = process
        self.user = user
        self.group = group
    }

    /// Asks the kernel who is connected to the socket `rawValue`.
    public init(ofSocket rawValue: Int32) throws(KernelError) {
        var (process, user, group) = (pid_t(), uid_t(), gid_t())
        try Kernel.call("getsockopt(SO_PEERCRED)") { clinux_unix_peer(rawValue, &process, &user, &group) }
        self.init(process: process, user: user, group: group)
    }
}
