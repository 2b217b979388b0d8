internal import CacheLoop
internal import CacheModel
internal import Glibc
internal import LinuxKit
public import Logging
internal import SharedCache

/// The daemon: puts the parts together, and lives from start to stop.
///
///     systemd/flags → settings → ring, pool, device → SessionCache → Server → clients
public enum Daemon {
    /// Runs until SIGTERM or SIGINT. Blocks the calling thread, which becomes the loop's.
    /// - Throws: why it cannot start, with the exit status and the remedy; or what was not made durable when it stopped.
    public static func run(
        _ configuration: Configuration, supervisor: Supervisor, log: Logger, level: LoggingLevel
    ) throws(DaemonFailure) {
        let parts = try DaemonParts(configuration.settings, supervisor)
        let outcome = Outcome()
        CacheLoop.start {
            let life = DaemonLife(parts, configuration, supervisor, log, level)
            outcome.failure = await life.run()
            parts.reactor.stop()
        }
        do {
            try parts.reactor.run()
        } catch {
            throw DaemonFailure(.failure, "the ring failed: \(error)", remedy: "read the kernel's log; every sealed chunk is on disk")
        }
        parts.pool.shutDown()
        if let failure = outcome.failure { throw failure }
    }

    /// Written by the loop's last job, read when the loop has returned.
    private final class Outcome: @unchecked Sendable {
        var failure: DaemonFailure?
    }
}
