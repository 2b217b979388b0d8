package import FoundationEssentials
internal import LinuxKit
public import Logging
internal import Synchronization

/// How much is logged, by every logger of the daemon at once: a reload changes it.
public final class LoggingLevel: Sendable {
    private let level: Mutex<Logger.Level>

    public init(_ level: Logger.Level) {
        self.level = Mutex(level)
    }

    public var current: Logger.Level {
        get { level.withLock { $0 } }
        set { level.withLock { $0 = newValue } }
    }
}

/// Writes the log to standard error: for the journal with its priorities, otherwise with the time, for people.
public struct LoggingHandler: LogHandler {
    /// Where a line ends up, and therefore what must stand before it.
    public enum Style: Sendable, Hashable {
        /// systemd reads a priority from `<N>`, and knows the time.
        case journal
        case plain

        /// Standard error is the journal if and only if systemd says that it made this very stream.
        public init(environment: [String: String]) {
            let stream = environment["JOURNAL_STREAM"]
            self = stream != nil && stream == StandardError.identity ? .journal : .plain
        }
    }

    public var metadata: Logger.Metadata = [:]
    private let style: Style
    private let level: LoggingLevel
    private var ownLevel: Logger.Level?

    public init(_ style: Style, _ level: LoggingLevel) {
        self.style = style
        self.level = level
    }

    /// The daemon's, unless this one logger was set otherwise.
    public var logLevel: Logger.Level {
        get { ownLevel ?? level.current }
        set { ownLevel = newValue }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        StandardError.write(text(of: event, at: Date()))
    }

    /// One line for each line of the message, so that no message can forge the beginning of another.
    package func text(of event: LogEvent, at time: Date) -> String {
        var message = "\(event.message)"
        if let error = event.error { message += ": \(error)" }
        let known = metadata.merging(event.metadata ?? [:]) { $1 }
        for (key, value) in known.sorted(by: { $0.key < $1.key }) { message += " \(key)=\(value)" }
        let prefix = prefix(event.level, time)
        return message.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).map { prefix + $0 + "\n" }.joined()
    }

    private func prefix(_ level: Logger.Level, _ time: Date) -> String {
        switch style {
        case .journal: "<\(level.journalPriority)>"
        case .plain:
            "\(time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))) \(level.rawValue): "
        }
    }
}

extension Logger.Level {
    /// syslog's numbers, which the journal uses. It knows nothing below debug.
    var journalPriority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
