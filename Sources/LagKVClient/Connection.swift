internal import CacheModel
internal import LinuxKit
internal import WireProtocol

/// One connection to the daemon: a request goes out, its reply comes back, nothing overlaps.
final class Connection {
    private let socket: UnixSocket
    private var nextRequest: UInt64 = 1
    /// Why nothing can be sent any more. A stream that broke once has no next frame.
    private var failure: ClientError?
    let welcome: Welcome
    /// The inlets that were granted last, mapped, the latest at the end.
    private var inlets: [(number: UInt32, file: MappedFile)] = []
    /// Inlets to keep mapped: as many as are on their way in at a time.
    private static let inletsKept = 64

    /// - Throws: `unreachable`, or what the daemon says to the greeting.
    static func open(path: String?, client: String) throws(ClientError) -> Connection {
        var attempts: [ClientError.Attempt] = []
        for candidate in SocketPath.candidates(path: path) {
            let socket: UnixSocket
            do {
                socket = try UnixSocket.connect(to: candidate)
            } catch {
                attempts.append(ClientError.Attempt(path: candidate, error: error))
                continue
            }
            return try Connection(greeting: socket, as: client)
        }
        throw .unreachable(attempts)
    }

    private init(greeting socket: consuming UnixSocket, as client: String) throws(ClientError) {
        var descriptors = PassedDescriptors()
        let greeting = Request.hello(Hello(client: client))
        guard case .hello(let welcome) = try Self.exchange(greeting, request: 0, over: socket, &descriptors) else {
            throw Self.unexpected(.hello)
        }
        guard welcome.version == Hello.version else {
            throw .badReply(
                CacheError(.badVersion, "the version chosen", seen: "\(welcome.version)", expected: "\(Hello.version)"))
        }
        self.welcome = welcome
        self.socket = socket
    }

    /// Sends `request` and waits for its reply. Descriptors that come with it are added to `descriptors`.
    func ask(_ request: Request, _ descriptors: inout PassedDescriptors) throws(ClientError) -> Reply {
        if let failure { throw failure }
        let identifier = nextRequest
        nextRequest += 1
        do {
            return try Self.exchange(request, request: identifier, over: socket, &descriptors)
        } catch {
            switch error {
            case .refused: break
            default: failure = error
            }
            throw error
        }
    }

    /// For replies without descriptors.
    func ask(_ request: Request) throws(ClientError) -> Reply {
        var none = PassedDescriptors()
        return try ask(request, &none)
    }

    private static func exchange(
        _ request: Request, request identifier: UInt64, over socket: borrowing UnixSocket,
        _ descriptors: inout PassedDescriptors
    ) throws(ClientError) -> Reply {
        let header: [UInt8]
        let payload: [UInt8]
        do {
            try socket.send(request.frame(request: identifier).span.bytes)
            header = try socket.receive(byteCount: FrameHeader.byteCount, descriptors: &descriptors)
        } catch {
            throw .connectionLost("\(error)")
        }
        let parsed = try understand(header) { (bytes) throws(CacheError) in try FrameHeader(parsing: bytes) }
        do {
            payload = parsed.length == 0 ? [] : try socket.receive(byteCount: parsed.length, descriptors: &descriptors)
        } catch {
            throw .connectionLost("\(error)")
        }
        guard parsed.flags.contains(.reply), parsed.verb == request.verb.rawValue, parsed.request == identifier else {
            throw unexpected(request.verb)
        }
        if parsed.flags.contains(.error) {
            throw .refused(try understand(payload) { (bytes) throws(CacheError) in try CacheError(payload: bytes) })
        }
        guard descriptors.count == request.verb.replyDescriptors else {
            throw .badReply(
                CacheError(
                    .badFrame, "descriptors with a reply to \(request.verb.name)", seen: "\(descriptors.count)",
                    expected: "\(request.verb.replyDescriptors)"))
        }
        return try understand(payload) { (bytes) throws(CacheError) in try Reply(verb: parsed.verb, payload: bytes) }
    }

    /// The inlet of that number, mapped: as it was the last time, or anew.
    func inlet(_ number: UInt32, _ descriptor: consuming Descriptor) throws(ClientError) -> MappedFile {
        let known = inlets.firstIndex { $0.number == number }.map { inlets.remove(at: $0).file }
        let file: MappedFile
        do throws(KernelError) {
            file = if let known { known } else { try MappedFile(descriptor, writable: true) }
        } catch {
            throw .kernel(error)
        }
        inlets.append((number, file))
        if inlets.count > Self.inletsKept { inlets.removeFirst() }
        return file
    }

    /// What cannot be understood came from the daemon, so it is the daemon's fault.
    private static func understand<Value>(
        _ bytes: [UInt8], _ parse: (RawSpan) throws(CacheError) -> Value
    ) throws(ClientError) -> Value {
        do { return try parse(bytes.span.bytes) } catch { throw .badReply(error) }
    }

    static func unexpected(_ verb: Verb) -> ClientError {
        .badReply(CacheError(.badFrame, "the reply to \(verb.name)", seen: "another reply", expected: "its own"))
    }
}
