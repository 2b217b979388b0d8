internal import CacheLoop
internal import CacheModel
internal import LinuxKit
internal import SharedCache
internal import WireProtocol

/// One client: reads its frames, has each request answered, and writes the replies.
///
/// Requests run beside one another (those of one session queue at its gate, in the order of their frames), up to a limit
/// beyond which nothing more is read: a client that floods, or does not read its replies, waits for itself.
@CacheLoop
final class Client {
    private let socket: RingFile
    private let reactor: Reactor
    private let cache: SessionCache
    private let connection: Connection
    private var inbox = FrameInbox()
    private var isWelcome = false
    private var requestsInFlight = 0
    private let requestDone = Signal()
    /// Keeps a reply's bytes together.
    private let sending = Gate()

    init(socket: RingFile, caller: Caller, reactor: Reactor, cache: SessionCache) {
        self.socket = socket
        self.reactor = reactor
        self.cache = cache
        connection = Connection(caller: caller)
    }

    /// Serves the client until it goes, or breaks the protocol beyond repair.
    func serve() async {
        let buffer = AlignedBuffer(byteCount: 64 << 10)
        do {
            while let frame = try await nextFrame(buffer) { await take(frame) }
        } catch let error as CacheError {
            await refuse(error, verb: 0, request: 0)
        } catch {
            // The other side is gone without a word: as good as a close.
        }
        socket.disconnect()
        while requestsInFlight > 0 { await requestDone.wait() }
        await cache.close(connection)
    }

    /// Ends the conversation: `serve` returns once what is in flight has been answered.
    func disconnect() { socket.disconnect() }

    // MARK: Reading

    private func nextFrame(_ buffer: AlignedBuffer) async throws -> Frame? {
        while true {
            if let frame = try inbox.next() { return frame }
            let count = try await reactor.receive(from: socket, into: buffer, 0..<buffer.byteCount)
            guard count > 0 else { return nil }
            buffer.withUnsafeBytes(0..<count) { inbox.append($0) }
        }
    }

    private func take(_ frame: Frame) async {
        guard isWelcome else { return await welcome(frame) }
        while requestsInFlight >= Limits.requestsInFlight { await requestDone.wait() }
        let request: Request
        do throws(CacheError) {
            request = try Request(verb: frame.verb, payload: frame.payload.span.bytes)
        } catch {
            cache.count(error)
            return await refuse(error, verb: frame.verb, request: frame.request)
        }
        requestsInFlight += 1
        CacheLoop.start {
            let answer = await cache.answer(request, from: connection)
            await send(answer, to: request.verb, request: frame.request)
            requestsInFlight -= 1
            requestDone.fire()
        }
    }

    /// The first frame decides whether there is a second.
    private func welcome(_ frame: Frame) async {
        do throws(CacheError) {
            guard frame.verb == Verb.hello.rawValue, case .hello(let hello) = try Request(verb: frame.verb, payload: frame.payload.span.bytes) else {
                throw CacheError(.badVersion, "the first frame", seen: "verb \(frame.verb)", expected: "hello, verb \(Verb.hello.rawValue)")
            }
            let version = try hello.agreed()
            isWelcome = true
            let reply = Reply.hello(Welcome(version: version, daemon: "lagkvd \(DaemonVersion.text)", processID: UInt64(Kernel.processID)))
            await send(reply.frame(verb: .hello, request: frame.request))
        } catch {
            cache.count(error)
            await refuse(error, verb: frame.verb, request: frame.request)
            socket.disconnect()
        }
    }

    // MARK: Writing

    private func refuse(_ error: CacheError, verb: UInt16, request: UInt64) async {
        await send(error.frame(verb: verb, request: request))
    }

    private func send(_ answer: Answer, to verb: Verb, request: UInt64) async {
        switch answer.result {
        case .failure(let error): await refuse(error, verb: verb.rawValue, request: request)
        case .success(let reply):
            do {
                var descriptors = PassedDescriptors()
                for file in answer.files { descriptors.append(try file.descriptor.duplicate()) }
                await send(reply.frame(verb: verb, request: request), descriptors)
            } catch {
                await refuse(
                    CacheError(.outOfResources, "descriptors for the reply", seen: "\(error)", expected: "a higher limit of open files"),
                    verb: verb.rawValue, request: request)
            }
        }
    }

    /// A reply that cannot be sent ends the conversation: the reading side sees it.
    private func send(_ bytes: [UInt8], _ descriptors: consuming PassedDescriptors = PassedDescriptors()) async {
        await sending.enter()
        defer { sending.leave() }
        do {
            try await reactor.send(bytes, descriptors: descriptors, on: socket)
        } catch {
            socket.disconnect()
        }
    }
}
