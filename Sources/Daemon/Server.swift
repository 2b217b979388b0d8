internal import CacheLoop
internal import CacheModel
internal import LinuxKit
internal import Logging
internal import SharedCache

/// Accepts clients and keeps track of them.
@CacheLoop
final class Server {
    private let listener: RingFile
    private let reactor: Reactor
    private let cache: SessionCache
    private let log: Logger
    private let ownUser: UInt32
    private var clients: [ObjectIdentifier: (client: Client, user: UInt32)] = [:]
    private let clientGone = Signal()
    private var isStopping = false

    /// - Parameter ownUser: whom the daemon runs as: an administrator, as is root.
    init(listener: RingFile, reactor: Reactor, cache: SessionCache, log: Logger, ownUser: UInt32) {
        self.listener = listener
        self.reactor = reactor
        self.cache = cache
        self.log = log
        self.ownUser = ownUser
    }

    /// Accepts clients until `stop`.
    func acceptClients() async {
        while !isStopping {
            do {
                admit(try await reactor.accept(on: listener))
            } catch where !isStopping {
                // Out of descriptors or memory, most likely: those who are here go on, those who wait stay in the backlog.
                log.error("cannot accept a client: \(error)")
                await reactor.sleep(milliseconds: Self.pauseAfterFailure)
            } catch {
                return
            }
        }
    }

    private static let pauseAfterFailure: UInt64 = 200

    private func admit(_ socket: RingFile) {
        guard let peer = try? LinuxKit.Peer(ofSocket: socket.rawValue) else { return }
        guard clients.values.count(where: { $0.user == peer.user }) < Limits.connectionsPerUser else {
            log.warning("user \(peer.user) has \(Limits.connectionsPerUser) connections; another is refused")
            return
        }
        let caller = Caller(
            user: peer.user, process: UInt32(clamping: peer.process), isAdministrator: peer.user == 0 || peer.user == ownUser)
        let client = Client(socket: socket, caller: caller, reactor: reactor, cache: cache)
        clients[ObjectIdentifier(client)] = (client, peer.user)
        log.debug("process \(peer.process) of user \(peer.user) has connected")
        CacheLoop.start {
            await client.serve()
            clients[ObjectIdentifier(client)] = nil
            clientGone.fire()
            log.debug("process \(peer.process) of user \(peer.user) has gone")
        }
    }

    /// Ends every conversation, and waits until all leases have ended.
    func stop() async {
        isStopping = true
        reactor.cancelOperations(on: listener)
        for (client, _) in clients.values { client.disconnect() }
        while !clients.isEmpty { await clientGone.wait() }
    }
}
