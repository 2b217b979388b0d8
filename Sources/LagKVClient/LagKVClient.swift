public import CacheModel
internal import LinuxKit
public import WireProtocol

/// A connection to lagkvd. Every call blocks until it is answered.
///
/// A client and its sessions belong to one thread at a time; for more threads, connect once for each. Sessions keep the
/// connection open; it closes when the client and its last session go, and with it every writer's lease.
public final class LagKVClient {
    private let connection: Connection

    private init(_ connection: Connection) { self.connection = connection }

    /// - Parameters:
    ///   - path: the socket; nil looks at the places that `SocketPath` lists.
    ///   - name: who this is, for the daemon's logs.
    /// - Throws: `unreachable` when nobody answers.
    public static func connect(path: String? = nil, as name: String = "LagKVClient") throws(ClientError) -> LagKVClient {
        LagKVClient(try Connection.open(path: path, client: name))
    }

    /// What the daemon said of itself.
    public var daemon: Welcome { connection.welcome }
}

/// Sessions to work with.
extension LagKVClient {
    /// A new session, and its writer's lease.
    public func create(_ name: SessionName, _ description: SessionDescription) throws(ClientError) -> Session {
        try attach(.create(name, description))
    }

    /// An existing session; one that is suspended is resumed first.
    /// - Parameters:
    ///   - write: asks for the writer's lease; `writerBusy` if another connection has it.
    ///   - fingerprint: refused (`mismatch`) unless the session has this one; nil takes any.
    public func open(
        _ name: SessionName, owner: Owner = .own, write: Bool = false, fingerprint: String? = nil
    ) throws(ClientError) -> Session {
        try attach(.open(SessionReference(name, owner: owner), write: write, fingerprint: fingerprint))
    }

    private func attach(_ request: Request) throws(ClientError) -> Session {
        var descriptors = PassedDescriptors()
        guard case .attachment(let attachment) = try connection.ask(request, &descriptors),
            let slab = descriptors.takeFirst(), let control = descriptors.takeFirst()
        else { throw Connection.unexpected(request.verb) }
        return try Session(connection, attachment, slab: slab, control: control)
    }
}

/// Sessions by name.
extension LagKVClient {
    /// Every session that the caller may see, ordered by owner and name.
    /// - Parameter everybody: other users' sessions as well, where they are shared or the caller is root.
    public func sessions(everybody: Bool = false) throws(ClientError) -> [SessionRow] {
        var all: [SessionRow] = []
        var after: SessionReference?
        while true {
            guard case .rows(let rows, let more) = try connection.ask(.list(everybody: everybody, after: after)) else {
                throw Connection.unexpected(.list)
            }
            all += rows
            guard more, let last = rows.last else { return all }
            after = SessionReference(last.name, owner: .user(last.owner))
        }
    }

    public func show(_ name: SessionName, owner: Owner = .own) throws(ClientError) -> SessionRow {
        try row(.show(SessionReference(name, owner: owner)))
    }

    /// Writes what is not on disk yet and gives the memory back.
    /// - Throws: `sessionBusy` while another connection holds the writer's lease.
    @discardableResult
    public func suspend(_ name: SessionName, owner: Owner = .own) throws(ClientError) -> SessionRow {
        try row(.suspend(SessionReference(name, owner: owner)))
    }

    /// Brings the hot view back to memory without opening the session.
    @discardableResult
    public func resume(_ name: SessionName, owner: Owner = .own) throws(ClientError) -> SessionRow {
        try row(.resume(SessionReference(name, owner: owner)))
    }

    /// A new session of the caller's with the first `tokens` tokens (nil: all), sharing the old one's files.
    @discardableResult
    public func fork(
        _ name: SessionName, owner: Owner = .own, as newName: SessionName, tokens: Int? = nil
    ) throws(ClientError) -> SessionRow {
        try row(.fork(SessionReference(name, owner: owner), as: newName, tokens: tokens))
    }

    public func rename(_ name: SessionName, to newName: SessionName) throws(ClientError) {
        try nothing(.rename(name, to: newName))
    }

    public func delete(_ name: SessionName, owner: Owner = .own) throws(ClientError) {
        try nothing(.delete(SessionReference(name, owner: owner)))
    }

    private func row(_ request: Request) throws(ClientError) -> SessionRow {
        guard case .row(let row) = try connection.ask(request) else { throw Connection.unexpected(request.verb) }
        return row
    }

    private func nothing(_ request: Request) throws(ClientError) {
        guard case .empty = try connection.ask(request) else { throw Connection.unexpected(request.verb) }
    }
}

/// The daemon itself.
extension LagKVClient {
    public func status() throws(ClientError) -> [StatusEntry] {
        guard case .status(let entries) = try connection.ask(.status) else { throw Connection.unexpected(.status) }
        return entries
    }

    /// OpenMetrics text.
    public func metrics() throws(ClientError) -> String {
        guard case .metrics(let text) = try connection.ask(.metrics) else { throw Connection.unexpected(.metrics) }
        return text
    }
}
