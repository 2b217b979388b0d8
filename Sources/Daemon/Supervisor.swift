public import LinuxKit

/// The service manager that started this process: what it handed over, and the way to tell it how things are. Where none
/// did, everything here is empty and telling does nothing.
public struct Supervisor: Sendable, Hashable {
    /// The listening socket of socket activation. Whoever takes it owns it.
    public let listener: Int32?
    /// How often `watchdog` is due: half of what the manager allows.
    public let watchdogInterval: Duration?
    private let socket: String?

    /// Descriptors that are handed over begin here.
    private static let firstDescriptor: Int32 = 3

    /// - Throws: `badActivation` when more than one socket was handed over.
    public init(environment: [String: String], processID: Int32) throws(DaemonFailure) {
        // The variables are meant for the process they name; a child that inherits them leaves them alone.
        let isForUs = environment["LISTEN_PID"] == "\(processID)"
        let count = isForUs ? environment["LISTEN_FDS"].flatMap { Int($0) } ?? 0 : 0
        guard (0...1).contains(count) else {
            throw DaemonFailure(
                .badActivation, "LISTEN_FDS is \(count)",
                remedy: "keep one ListenStream= in lagkvd.socket, and no other socket unit")
        }
        listener = count == 1 ? Self.firstDescriptor : nil

        let watchdogIsForUs = environment["WATCHDOG_PID"].map { $0 == "\(processID)" } ?? true
        watchdogInterval = environment["WATCHDOG_USEC"].flatMap { Int($0) }.flatMap { usec in
            watchdogIsForUs && usec > 0 ? .microseconds(usec) / 2 : nil
        }
        socket = environment["NOTIFY_SOCKET"]
    }

    public func tell(_ messages: [SupervisorMessage]) throws(KernelError) {
        guard let socket else { return }
        try Datagram.send(messages.map(\.text).joined(separator: "\n"), to: socket)
    }
}
