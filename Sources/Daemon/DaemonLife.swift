internal import CacheLoop
internal import CacheModel
internal import Glibc
internal import LinuxKit
internal import Logging
internal import SharedCache

/// The daemon from "state is being read" to "every window is durable".
@CacheLoop
final class DaemonLife {
    private var configuration: Configuration
    private let supervisor: Supervisor
    private let log: Logger
    private let level: LoggingLevel
    private let parts: DaemonParts
    private let keeper: SupervisorKeeper?
    private let cache: SessionCache
    private let server: Server
    private var isStopping = false

    init(
        _ parts: DaemonParts, _ configuration: Configuration, _ supervisor: Supervisor, _ log: Logger, _ level: LoggingLevel
    ) {
        self.parts = parts
        self.configuration = configuration
        self.supervisor = supervisor
        self.log = log
        self.level = level
        let entropy = Entropy(SystemRandomNumberGenerator())
        let device = UringDevice(
            root: parts.stateDirectory.root, traits: parts.stateDirectory.traits, reactor: parts.reactor, compute: parts.pool,
            entropy: entropy)
        keeper = SupervisorKeeper(supervisor, log)
        cache = SessionCache(
            device: device, compute: parts.pool, clock: RingClock(parts.reactor), entropy: entropy,
            settings: configuration.settings.cache, keeper: keeper
        ) { level, text in log.log(level: level.logging, "\(text)") }
        server = Server(listener: parts.listener, reactor: parts.reactor, cache: cache, log: log, ownUser: Kernel.effectiveUser)
    }

    private var settings: DaemonSettings { configuration.settings }

    /// - Returns: why it could not start, or what was lost in stopping; nil for a clean life.
    func run() async -> DaemonFailure? {
        describeSurroundings()
        do throws(CacheError) {
            try await cache.start(with: keeper?.takeKept() ?? [])
        } catch {
            return DaemonFailure(.stateNotReadable, "\(error)", remedy: "check the disk below \(settings.stateDirectory)")
        }
        CacheLoop.start { await server.acceptClients() }
        CacheLoop.start { await keepWatchdog() }
        CacheLoop.start { await keepIdle() }
        tell(.ready, .status("\(cache.sessionCount) sessions"))
        log.notice("ready on \(supervisor.listener == nil ? settings.socket : "the socket of the service manager")")
        await obeySignals()
        return await stop()
    }

    private func describeSurroundings() {
        let traits = parts.stateDirectory.traits
        log.info("lagkvd \(DaemonVersion.text), state in \(settings.stateDirectory), \(settings.workers) workers")
        log.info("configuration from \(configuration.file ?? "flags, environment and defaults: there is no file")")
        for warning in configuration.warnings { log.warning("\(warning)") }
        for remark in traits.remarks { log.notice("\(settings.stateDirectory): \(remark)") }
        log.info("budgets: memory \(settings.memoryBudget) bytes, disk \(settings.diskBudget) bytes, staging \(settings.staging) bytes")
    }

    private func obeySignals() async {
        while let signal = try? await parts.reactor.nextSignal(from: parts.signals) {
            guard signal == SIGHUP else { return }
            tell(.reloading(now: RingClock(parts.reactor).monotonicMilliseconds * 1_000))
            reloadConfiguration()
            tell(.ready)
        }
    }

    private func reloadConfiguration() {
        do throws(ConfigurationError) {
            let (new, change) = try configuration.reloaded(in: .current())
            configuration = new
            cache.settings = settings.cache
            level.current = settings.logLevel
            for line in change.applied { log.notice("configuration: \(line)") }
            for line in change.needRestart { log.notice("configuration, at the next start: \(line)") }
            log.notice("configuration read again")
        } catch {
            log.error("the configuration has errors; the one in use stays\n\(error)")
        }
    }

    private func keepWatchdog() async {
        guard let interval = supervisor.watchdogInterval else { return }
        while !isStopping {
            tell(.watchdog)
            await parts.reactor.sleep(milliseconds: UInt64(interval / .milliseconds(1)))
        }
    }

    private func keepIdle() async {
        while !isStopping {
            await parts.reactor.sleep(milliseconds: Self.idleCheckMilliseconds)
            await cache.suspendIdle()
            cache.trim(after: Self.idleChecksOfBuffers)
        }
    }

    private static let idleCheckMilliseconds: UInt64 = 1_000
    /// Idle checks after which an unused buffer goes back to the system.
    private static let idleChecksOfBuffers: UInt64 = 30

    /// Ends the clients, then makes every window durable. The watchdog is kept fed meanwhile by extending the time to stop.
    private func stop() async -> DaemonFailure? {
        log.notice("stopping: making every window durable")
        tell(.stopping(patience: Self.patience))
        await server.stop()
        let failed = await cache.stop()
        isStopping = true
        for failure in failed { log.error("session “\(failure.name)” could not be made durable: \(failure.error)") }
        guard failed.isEmpty else {
            return DaemonFailure(
                .failure, "\(failed.count) sessions could not be made durable", remedy: "see the log; their sealed chunks are on disk")
        }
        log.notice("stopped; every session is durable")
        return nil
    }

    private static let patience: Duration = .seconds(90)

    private func tell(_ messages: SupervisorMessage...) {
        do {
            try supervisor.tell(messages)
        } catch {
            log.warning("the service manager does not listen: \(error)")
        }
    }
}

extension SessionCache.LogLevel {
    var logging: Logger.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        }
    }
}

extension DaemonSettings {
    /// What the cache is told of it.
    var cache: CacheSettings {
        CacheSettings(
            memoryBudget: memoryBudget, memoryBudgetPerUser: memoryBudgetPerUser, diskBudget: diskBudget,
            diskBudgetPerUser: diskBudgetPerUser, staging: staging,
            idleSuspendMilliseconds: idleSuspend == .zero ? nil : UInt64(idleSuspend / .milliseconds(1)))
    }
}
