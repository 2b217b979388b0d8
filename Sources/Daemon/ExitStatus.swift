/// Why `lagkvd` ended, one number for each reason, so that a service manager or a script can tell what would help. The
/// numbers are those of `sysexits.h`, which systemd prints by name.
public enum ExitStatus: Int32, Sendable, CaseIterable {
    case success = 0
    /// The daemon failed while it ran.
    case failure = 1
    /// Flags that make no sense.
    case usage = 64
    /// The state directory holds what this version cannot read.
    case stateNotReadable = 65
    /// The socket's path is taken by another process.
    case socketInUse = 69
    /// The kernel or the container forbids io_uring.
    case ringForbidden = 71
    /// Descriptors, memory or locked memory ran out at start.
    case outOfResources = 72
    /// The state directory cannot be created or written.
    case stateNotWritable = 73
    /// The socket cannot be created.
    case socketNotCreated = 74
    /// Another daemon uses the state directory.
    case stateLocked = 75
    /// What systemd handed over is not what the units promise.
    case badActivation = 76
    /// A configuration with errors.
    case configuration = 78

    public var reason: String {
        switch self {
        case .success: "stopped when asked to"
        case .failure: "failed while running"
        case .usage: "flags that make no sense"
        case .stateNotReadable: "the state directory holds what this version cannot read"
        case .socketInUse: "the socket's path is taken by another process"
        case .ringForbidden: "the kernel or the container forbids io_uring"
        case .outOfResources: "descriptors, memory or locked memory ran out at start"
        case .stateNotWritable: "the state directory cannot be created or written"
        case .socketNotCreated: "the socket cannot be created"
        case .stateLocked: "another daemon uses the state directory"
        case .badActivation: "systemd handed over something else than a listening Unix socket"
        case .configuration: "a configuration with errors"
        }
    }
}

/// Why the daemon could not start, or what went wrong while it stopped. It says so and what to do, and ends with the status.
public struct DaemonFailure: Error, Sendable, Hashable, CustomStringConvertible {
    public var status: ExitStatus
    /// What was tried and what was seen.
    public var message: String
    /// What an administrator can do.
    public var remedy: String

    public init(_ status: ExitStatus, _ message: String, remedy: String) {
        self.status = status
        self.message = message
        self.remedy = remedy
    }

    public var description: String { "\(status == .failure ? "" : "cannot start: ")\(message); to do: \(remedy)" }
}
