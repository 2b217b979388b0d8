internal import CacheLoop
internal import Glibc
internal import LinuxKit
internal import Logging

/// What the daemon takes from the machine before it lives: each thing with its own reason not to start, and its remedy.
struct DaemonParts: Sendable {
    let signals: RingFile
    let reactor: Reactor
    let stateDirectory: StateDirectory
    let listener: RingFile
    let pool: WorkerPool

    init(_ settings: DaemonSettings, _ supervisor: Supervisor) throws(DaemonFailure) {
        // First of all: threads that are started later inherit the mask.
        signals = try Self.attempt(.outOfResources, "raise the limit of open files") { () throws(KernelError) in
            RingFile(try SignalDescriptor([SIGTERM, SIGINT, SIGHUP]).takeDescriptor())
        }
        Kernel.raiseOpenFileLimit()
        reactor = try Self.makeReactor()
        stateDirectory = try StateDirectory(path: settings.stateDirectory)
        listener = try Self.listen(settings, supervisor)
        pool = WorkerPool(width: settings.workers)
    }

    private static func makeReactor() throws(DaemonFailure) -> Reactor {
        let ring: Ring
        do throws(RingUnavailable) {
            ring = try Ring()
        } catch {
            throw DaemonFailure(.ringForbidden, "\(error.seen); \(error.cause)", remedy: error.remedy)
        }
        do throws(KernelError) {
            return try Reactor(ring: ring)
        } catch {
            throw DaemonFailure(.outOfResources, "\(error)", remedy: "raise the limit of open files")
        }
    }

    /// The socket that systemd handed over, or one of our own.
    private static func listen(_ settings: DaemonSettings, _ supervisor: Supervisor) throws(DaemonFailure) -> RingFile {
        if let inherited = supervisor.listener {
            return try attempt(.badActivation, "keep ListenStream= in lagkvd.socket, with a path") { () throws(KernelError) in
                RingFile(try UnixSocket(adoptingListener: Descriptor(owning: inherited)).takeDescriptor())
            }
        }
        do throws(KernelError) {
            try Kernel.makeDirectories(for: settings.socket, mode: 0o700)
            // Clients trust the path: below /tmp somebody may have been there first.
            let directory = settings.socket.prefix(upTo: settings.socket.lastIndex(of: "/") ?? settings.socket.startIndex)
            if let stranger = try Kernel.stranger(inDirectory: directory + "/") {
                throw KernelError(call: "bind", detail: "\(settings.socket) (\(stranger))", code: EPERM)
            }
            return RingFile(try UnixSocket.listen(at: settings.socket, mode: UInt32(settings.socketMode)).takeDescriptor())
        } catch where error.code == EADDRINUSE {
            throw DaemonFailure(.socketInUse, "\(error)", remedy: "stop the other daemon, or choose another socket=")
        } catch {
            throw DaemonFailure(.socketNotCreated, "\(error)", remedy: "choose a socket= in a directory that this user may write")
        }
    }

    static func attempt<Value>(
        _ status: ExitStatus, _ remedy: String, _ body: () throws(KernelError) -> Value
    ) throws(DaemonFailure) -> Value {
        do throws(KernelError) {
            return try body()
        } catch {
            throw DaemonFailure(status, "\(error)", remedy: remedy)
        }
    }
}
