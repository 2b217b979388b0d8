/// What the daemon tells its supervisor (sd_notify).
public enum SupervisorMessage: Sendable, Hashable {
    case ready
    /// `now` is CLOCK_MONOTONIC in microseconds. Ends with the next `ready`.
    case reloading(now: UInt64)
    /// The daemon stops; `patience` is how long it may take from now before it counts as hung.
    case stopping(patience: Duration)
    /// One line for `systemctl status`.
    case status(String)
    /// Still alive; due once in every `watchdogInterval`.
    case watchdog
    /// Hold the descriptors that come with this message, and hand them to the next process of the service, under this name (at most
    /// 200 bytes, without “:”).
    case keep(name: String)
    /// Close what is held under this name.
    case letGo(name: String)

    /// As the datagram's lines.
    package var text: String {
        switch self {
        case .ready: "READY=1"
        case .reloading(let now): "RELOADING=1\nMONOTONIC_USEC=\(now)"
        case .stopping(let patience): "STOPPING=1\nEXTEND_TIMEOUT_USEC=\(Int(patience / .microseconds(1)))"
        case .status(let line): "STATUS=" + line.map { $0.isNewline ? " " : String($0) }.joined()
        case .watchdog: "WATCHDOG=1"
        case .keep(let name): "FDSTORE=1\nFDNAME=\(Self.keptPrefix)\(name)"
        case .letGo(let name): "FDSTOREREMOVE=1\nFDNAME=\(Self.keptPrefix)\(name)"
        }
    }

    /// What tells descriptors that are held from sockets.
    private static let keptPrefix = "slabs-"

    /// The name that was given to `keep`, from that of a descriptor; nil for other descriptors.
    static func keptName(_ text: String) -> String? {
        text.hasPrefix(keptPrefix) ? String(text.dropFirst(keptPrefix.count)) : nil
    }
}
