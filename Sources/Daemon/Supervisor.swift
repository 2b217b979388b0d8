public import LinuxKit

/// The service manager that started this process: what it handed over, and the way to tell it how things are. Where none
/// did, everything here is empty and telling does nothing.
public struct Supervisor: Sendable, Hashable {
    /// The listening socket of socket activation. Whoever takes it owns it.
    public let listener: Int32?
    /// What an earlier life of the daemon gave it to hold (`SupervisorMessage.keep`), by name. Whoever takes them owns them.
    public let kept: [String: [Int32]]
    /// How often `watchdog` is due: half of what the manager allows.
    public let watchdogInterval: Duration?
    private let socket: String?

    /// Descriptors that are handed over begin here.
    private static let firstDescriptor: Int32 = 3

    /// - Throws: `badActivation` when more than one socket was handed over.
    public init(environment: [String: String], processID: Int32) throws(DaemonFailure) {
        // The variables are meant for the process they name; a child that inherits them leaves them alone.
        let isForUs = environment["LISTEN_PID"] == "\(processID)"
        let count = isForUs ? environment["LISTEN_FDS"].flatMap { Int32($0) } ?? 0 : 0
        let names = (environment["LISTEN_FDNAMES"] ?? "").split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        var listeners: [Int32] = []
        var kept: [String: [Int32]] = [:]
        for (index, descriptor) in (Self.firstDescriptor..<Self.firstDescriptor + max(0, count)).enumerated() {
            // A socket is called after its unit, or "unknown".
            if index < names.count, let name = SupervisorMessage.keptName(names[index]) {
                kept[name, default: []].append(descriptor)
            } else {
                listeners.append(descriptor)
            }
        }
        guard listeners.count <= 1 else {
            throw DaemonFailure(
                .badActivation, "LISTEN_FDS has \(listeners.count) sockets",
                remedy: "keep one ListenStream= in lagkvd.socket, and no other socket unit")
        }
        listener = listeners.first
        self.kept = kept

        let watchdogIsForUs = environment["WATCHDOG_PID"].map { $0 == "\(processID)" } ?? true
        watchdogInterval = environment["WATCHDOG_USEC"].flatMap { Int($0) }.flatMap { usec in
            watchdogIsForUs && usec > 0 ? .microseconds(usec) / 2 : nil
        }
        socket = environment["NOTIFY_SOCKET"]
    }

    /// Whether there is a manager that listens.
    public var isThere: Bool { socket != nil }

    /// - Parameter descriptors: what `keep` is about.
    public func tell(
        _ messages: [SupervisorMessage], with descriptors: consuming PassedDescriptors = PassedDescriptors()
    ) throws(KernelError) {
        guard let socket else { return }
        try Datagram.send(messages.map(\.text).joined(separator: "\n"), to: socket, with: descriptors)
    }
}
