public import CacheLoop
public import CacheModel
public import ChunkStore
public import LinuxKit
public import WireProtocol

/// All sessions of one daemon: answers every request, spills what is sealed, and keeps within its budgets.
///
/// It decides and calls; the world it calls is what it was given (`Device`, `Compute`, `LoopClock`, `Entropy`), so the
/// daemon and the simulator run the same code. Everything here is isolated to the loop; work that takes milliseconds of a core goes
/// through `compute`.
@CacheLoop
public final class SessionCache {
    public var settings: CacheSettings {
        didSet { applySettings() }
    }
    public private(set) var isStopping = false
    public internal(set) var metrics = Metrics()

    let store: SessionStore
    let compute: any Compute
    let clock: any LoopClock
    let entropy: Entropy
    let keeper: (any SlabKeeper)?
    let pool: BufferPool
    let spares = SpareSlabs()
    let inlets: InletPool
    let scratch = CodecScratch()
    private let log: @Sendable (LogLevel, String) -> Void

    var sessions: [SessionKey: Session] = [:]
    /// Names that a creation or a fork under way has taken.
    var namesBeingMade: Set<SessionKey> = []
    /// Bytes of full views that are being put together.
    var transitBytes = 0
    /// Bytes of chunks that wait for the disk.
    var stagedBytes = 0
    /// Bytes of chunks that are on their way in by inlets.
    var deliveryBytes = 0
    /// Fires when `stagedBytes` shrinks or the disk's state changes.
    let stagingChanged = Signal()

    public enum LogLevel: Sendable { case debug, info, notice, warning, error }

    struct SessionKey: Hashable {
        let owner: UInt32
        let name: SessionName
    }

    public init(
        device: any Device, compute: any Compute, clock: any LoopClock, entropy: Entropy, settings: CacheSettings,
        keeper: (any SlabKeeper)? = nil, log: @escaping @Sendable (LogLevel, String) -> Void = { _, _ in }
    ) {
        self.settings = settings
        self.compute = compute
        self.clock = clock
        self.entropy = entropy
        self.keeper = keeper
        self.log = log
        store = SessionStore(device: device, entropy: entropy)
        pool = BufferPool(byteLimit: settings.staging)
        inlets = InletPool(byteLimit: settings.staging)
        applySettings()
    }

    private func applySettings() {
        store.byteLimit = settings.diskBudget
        stagingChanged.fire()
        retryWrites()
    }

    /// How many sessions there are, resident and suspended.
    public var sessionCount: Int { sessions.count }

    /// Counts an error that was answered before it came here.
    public func count(_ error: CacheError) { metrics.errors[error.code, default: 0] += 1 }

    func note(_ level: LogLevel, _ text: String) { log(level, text) }

    // MARK: Life

    /// Finds every session on disk, and what an earlier daemon had of it in memory. Directories that are none are named in the log and
    /// left alone.
    public func start(with kept: [KeptSlabs] = []) async throws(CacheError) {
        let (found, damaged) = try await store.open()
        for session in found {
            let key = SessionKey(owner: session.owner, name: session.name)
            sessions[key] = Session(
                owner: session.owner, name: session.name, files: session.files, lastUsed: clock.wallMilliseconds)
        }
        for error in damaged { note(.warning, "left alone: \(error)") }
        note(.info, "\(sessions.count) sessions on disk, \(store.usedBytes) bytes")
        await rescue(from: kept)
    }

    /// Makes every window durable and gives all memory back. New requests are refused from here on.
    ///
    /// A disk budget refuses new tokens; it does not lose those that were accepted. So it ends here, and what the disk has
    /// refused, or refuses now, is tried once more.
    /// - Returns: the sessions whose tokens could not all be written, with the reason.
    public func stop() async -> [(name: String, error: CacheError)] {
        isStopping = true
        settings.diskBudget = nil
        settings.diskBudgetPerUser = nil
        var failed: [(name: String, error: CacheError)] = []
        for session in inOrder() where session.resident != nil {
            await session.gate.enter()
            do throws(CacheError) {
                try await suspendAtLast(session)
            } catch {
                failed.append((session.name.text, error))
            }
            session.gate.leave()
        }
        return failed
    }

    private func suspendAtLast(_ session: Session) async throws(CacheError) {
        do throws(CacheError) {
            try await suspend(session)
        } catch {
            retryWrites()
            try await suspend(session)
        }
    }

    /// Suspends what nobody has touched for the configured time. Called now and then by the daemon's timer.
    public func suspendIdle() async {
        guard let limit = settings.idleSuspendMilliseconds else { return }
        let now = clock.wallMilliseconds
        for session in inOrder() where session.isIdle && session.readers == 0 && session.lastUsed + limit <= now {
            await session.gate.enter()
            if session.resident != nil, session.writer == nil { try? await suspend(session) }
            session.gate.leave()
        }
    }

    /// Gives memory back that was kept for the next chunk and not wanted for `calls` calls of this. Called now and then by the
    /// daemon's timer.
    public func trim(after calls: UInt64) {
        pool.trim(after: calls)
        spares.trim(after: calls)
        inlets.trim(after: calls)
    }

    /// By owner and name, so that a seed always meets them in one order.
    private func inOrder() -> [Session] { sessions.sorted { $0.key < $1.key }.map(\.value) }

    /// Ends a connection: its leases and handles, with the tokens it has published.
    public func close(_ connection: Connection) async {
        for handle in connection.close() { await end(handle, of: connection) }
        keepForAgain(nil, of: connection)
        inlets.removeAll(of: connection.inletOwner)
        await letGo(of: connection.takeReadAhead())
    }

    // MARK: Requests

    /// Carries out one request. Requests that name one session are carried out in the order in which they were given here.
    public func answer(_ request: Request, from connection: Connection) async -> Answer {
        do throws(CacheError) {
            guard !isStopping else { throw CacheError(.shuttingDown, "the daemon is stopping", expected: "a new connection later") }
            return try await perform(request, for: connection)
        } catch {
            count(error)
            return Answer(error)
        }
    }

    private func perform(_ request: Request, for connection: Connection) async throws(CacheError) -> Answer {
        let caller = connection.caller
        switch request {
        case .hello:
            throw CacheError(.badRequest, "a second hello", expected: "one, as the first frame")
        case .create(let name, let description):
            return try await create(name, description, for: connection)
        case .open(let session, let write, let fingerprint):
            return try await open(session, write: write, fingerprint: fingerprint, for: connection)
        case .close(let number):
            guard let handle = connection.remove(number) else { throw Self.badHandle(number) }
            await end(handle, of: connection)
            return Answer(.empty)
        case .commit(let handle, let tokens, let options):
            return Answer(.standing(try await commit(handle, tokens: tokens, options, for: connection)))
        case .inlet(let handle, let after, let wanted):
            return try await inlet(handle, after: after, wanted: wanted, for: connection)
        case .deliver(let handle, let tokens, let layers):
            try await deliver(handle, tokens: tokens, layers: layers, for: connection)
            return Answer(.empty)
        case .sync(let handle, let window):
            return Answer(.standing(try await sync(handle, window: window, for: connection)))
        case .full(let handle, let layer, let again):
            return try await full(handle, layer: layer, again: again, for: connection)
        case .recall(let handle, let choices):
            return Answer(.standing(try await recall(handle, choices, for: connection)))
        case .release(let handle):
            return Answer(.standing(try await release(handle, for: connection)))
        case .truncate(let handle, let tokens):
            return Answer(.standing(try await truncate(handle, to: tokens, for: connection)))
        case .fork(let session, let name, let tokens):
            return Answer(.row(try await fork(session, as: name, tokens: tokens, for: caller)))
        case .rename(let name, let newName):
            try await rename(name, to: newName, for: caller)
            return Answer(.empty)
        case .delete(let session):
            try await delete(session, for: caller)
            return Answer(.empty)
        case .suspend(let session):
            return Answer(.row(try await suspend(session, for: connection)))
        case .resume(let session):
            return Answer(.row(try await resume(session, for: caller)))
        case .show(let session):
            return Answer(.row(row(try find(session, for: caller))))
        case .list(let everybody, let after):
            return Answer(list(everybody: everybody, after: after, for: caller))
        case .status:
            return Answer(.status(status()))
        case .metrics:
            return Answer(.metrics(openMetrics()))
        }
    }

    // MARK: Who may

    /// The session that `caller` means.
    /// - Throws: `notFound`, also where there is one that the caller may not know of.
    func find(_ reference: SessionReference, for caller: Caller) throws(CacheError) -> Session {
        let owner =
            switch reference.owner {
            case .own: caller.user
            case .user(let user): user
            }
        guard let session = sessions[SessionKey(owner: owner, name: reference.name)], maySee(session, caller) else {
            throw Self.notFound(reference.name)
        }
        return session
    }

    static func notFound(_ name: SessionName) -> CacheError {
        CacheError(.notFound, "a session", seen: "“\(name)”", expected: "the name of a session that this user may see")
    }

    func maySee(_ session: Session, _ caller: Caller) -> Bool {
        session.owner == caller.user || caller.isAdministrator || session.description.isShared
    }

    /// - Throws: `notPermitted` unless `caller` may change the session.
    func requireOwner(_ session: Session, _ caller: Caller) throws(CacheError) {
        guard session.owner == caller.user || caller.isAdministrator else {
            throw CacheError(.notPermitted, "changing another user's session", seen: "user \(caller.user)", expected: "user \(session.owner)")
        }
    }

    /// The session behind a handle. Its gate is entered; the caller leaves it.
    func enter(_ number: UInt32, of connection: Connection) async throws(CacheError) -> Connection.Handle {
        guard let handle = connection.handles[number] else { throw Self.badHandle(number) }
        await handle.session.gate.enter()
        guard handle.session.resident === handle.resident, !connection.isClosed else {
            handle.session.gate.leave()
            throw Self.badHandle(number)
        }
        handle.session.lastUsed = clock.wallMilliseconds
        return handle
    }

    /// As `enter`, for a request that needs the lease.
    func enterWriting(_ number: UInt32, of connection: Connection) async throws(CacheError) -> Connection.Handle {
        let handle = try await enter(number, of: connection)
        guard handle.isWriter, handle.session.writer === connection else {
            handle.session.gate.leave()
            throw CacheError(.notWriter, "changing a session", seen: "a handle opened for reading", expected: "the writer's lease")
        }
        return handle
    }

    static func badHandle(_ number: UInt32) -> CacheError {
        CacheError(.badHandle, "a handle", seen: "\(number)", expected: "one of this connection whose session is resident: open it again")
    }
}

/// A reply or an error, and the files that go with it.
public struct Answer: Sendable {
    public let result: Result<Reply, CacheError>
    public let files: [GrantedFile]

    init(_ reply: Reply, files: [GrantedFile] = []) {
        result = .success(reply)
        self.files = files
    }

    init(_ error: CacheError) {
        result = .failure(error)
        files = []
    }
}

/// A file that a client may map, for writing or not. From its making on it counts as reachable by the client.
public final class GrantedFile: Sendable {
    public let memory: SharedMemory
    public let descriptor: Descriptor

    /// - Throws: `outOfResources` when there are no descriptors left.
    init(_ memory: SharedMemory, writable: Bool) throws(CacheError) {
        self.memory = memory
        do throws(KernelError) {
            descriptor = try writable ? memory.writableDescriptor() : memory.readOnlyDescriptor()
        } catch {
            throw CacheError(.outOfResources, "descriptors for a reply", seen: "\(error)", expected: "a higher limit of open files")
        }
    }
}
