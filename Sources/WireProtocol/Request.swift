public import CacheModel

/// What a client asks, one case a verb.
public enum Request: Sendable, Hashable {
    case hello(Hello)
    case create(SessionName, SessionDescription)
    case open(SessionReference, write: Bool, fingerprint: String?)
    case close(handle: UInt32)
    case commit(handle: UInt32, tokens: Int, CommitOptions)
    /// Tokens from `after` on and below `wanted` shall come by inlets.
    case inlet(handle: UInt32, after: Int, wanted: Int)
    /// Tokens below `tokens` of layers below `layers` are in inlets.
    case deliver(handle: UInt32, tokens: Int, layers: Int)
    case sync(handle: UInt32, window: Bool)
    case full(handle: UInt32, layer: Int, again: Bool)
    case recall(handle: UInt32, [RecallChoice])
    case release(handle: UInt32)
    case truncate(handle: UInt32, tokens: Int)
    /// `tokens` nil: all of them.
    case fork(SessionReference, as: SessionName, tokens: Int?)
    case rename(SessionName, to: SessionName)
    case delete(SessionReference)
    case suspend(SessionReference)
    case resume(SessionReference)
    case show(SessionReference)
    /// `after` nil: from the beginning.
    case list(everybody: Bool, after: SessionReference?)
    case status
    case metrics

    public var verb: Verb {
        switch self {
        case .hello: .hello
        case .create: .create
        case .open: .open
        case .close: .close
        case .commit: .commit
        case .inlet: .inlet
        case .deliver: .deliver
        case .sync: .sync
        case .full: .full
        case .recall: .recall
        case .release: .release
        case .truncate: .truncate
        case .fork: .fork
        case .rename: .rename
        case .delete: .delete
        case .suspend: .suspend
        case .resume: .resume
        case .show: .show
        case .list: .list
        case .status: .status
        case .metrics: .metrics
        }
    }
}

/// The first frame of a connection.
public struct Hello: Sendable, Hashable {
    /// "LGKV", as a little-endian u32.
    public static let magic: UInt32 = 0x564B_474C
    /// The version that this code speaks.
    public static let version: UInt16 = 1
    /// Bytes of UTF-8 of a client's (and a daemon's) description of itself.
    public static let nameBytes = 256

    public var lowest: UInt16
    public var highest: UInt16
    /// For logs: program and version.
    public var client: String

    public init(lowest: UInt16 = version, highest: UInt16 = version, client: String) {
        self.lowest = lowest
        self.highest = highest
        self.client = client
    }

    /// The version both sides speak.
    /// - Throws: `badVersion`.
    public func agreed() throws(CacheError) -> UInt16 {
        guard lowest <= Self.version, highest >= Self.version else {
            throw CacheError(.badVersion, "the protocol's version", seen: "\(lowest) to \(highest)", expected: "\(Self.version)")
        }
        return Self.version
    }
}

/// What a commit asks beyond its count. The bits not named here are reserved.
public struct CommitOptions: OptionSet, Sendable, Hashable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The tokens beyond the session's length are in inlets, not in its slabs.
    public static let delivered = CommitOptions(rawValue: 1 << 0)
    /// Reply when every sealed chunk is on disk.
    public static let durable = CommitOptions(rawValue: 1 << 1)
}

extension Request {
    /// - Parameter verb: the number in the frame's header.
    /// - Throws: `unknownVerb`; `badFrame` if the payload is not exactly the verb's fields; or what the value itself says:
    ///   `badName`, `limitExceeded`, `badRequest`, `badVersion`.
    public init(verb number: UInt16, payload: RawSpan) throws(CacheError) {
        var reader = ByteReader(payload)
        self = try Self.parse(try Verb(wire: number), from: &reader)
        try reader.finish()
    }

    private static func parse(_ verb: Verb, from reader: inout ByteReader) throws(CacheError) -> Request {
        switch verb {
        case .hello: .hello(try Hello(from: &reader))
        case .create: .create(try SessionName(from: &reader), try SessionDescription(from: &reader))
        case .open: try open(from: &reader)
        case .close: .close(handle: try reader.u32())
        case .commit: .commit(handle: try reader.u32(), tokens: try reader.int64(), try CommitOptions(from: &reader))
        case .inlet: .inlet(handle: try reader.u32(), after: try reader.int64(), wanted: try reader.int64())
        case .deliver: .deliver(handle: try reader.u32(), tokens: try reader.int64(), layers: try reader.int32())
        case .sync: .sync(handle: try reader.u32(), window: try reader.bool())
        case .full: .full(handle: try reader.u32(), layer: try reader.int32(), again: try reader.bool())
        case .recall: .recall(handle: try reader.u32(), try reader.list(of: RecallChoice.self, atMost: RecallChoice.perRequest))
        case .release: .release(handle: try reader.u32())
        case .truncate: .truncate(handle: try reader.u32(), tokens: try reader.int64())
        case .fork: try fork(from: &reader)
        case .rename: .rename(try SessionName(from: &reader), to: try SessionName(from: &reader))
        case .delete: .delete(try SessionReference(from: &reader))
        case .suspend: .suspend(try SessionReference(from: &reader))
        case .resume: .resume(try SessionReference(from: &reader))
        case .show: .show(try SessionReference(from: &reader))
        case .list: try list(from: &reader)
        case .status: .status
        case .metrics: .metrics
        }
    }

    private static func open(from reader: inout ByteReader) throws(CacheError) -> Request {
        let session = try SessionReference(from: &reader)
        let write = try reader.bool()
        let checks = try reader.bool()
        let fingerprint = try reader.string(atMost: Limits.fingerprintBytes)
        guard checks || fingerprint.isEmpty else {
            throw CacheError(.badRequest, "a fingerprint", seen: "one that shall not be checked", expected: "an empty one")
        }
        return .open(session, write: write, fingerprint: checks ? fingerprint : nil)
    }

    private static func fork(from reader: inout ByteReader) throws(CacheError) -> Request {
        let session = try SessionReference(from: &reader)
        let name = try SessionName(from: &reader)
        let tokens = try reader.u64()
        if tokens == .max { return .fork(session, as: name, tokens: nil) }
        guard let count = Int(exactly: tokens) else {
            throw CacheError(.limitExceeded, "tokens of a fork", seen: "\(tokens)", expected: "at most \(Limits.tokens)")
        }
        return .fork(session, as: name, tokens: count)
    }

    private static func list(from reader: inout ByteReader) throws(CacheError) -> Request {
        let everybody = try reader.bool()
        let owner = try Owner(from: &reader)
        let name = try reader.string()
        return .list(everybody: everybody, after: name.isEmpty ? nil : SessionReference(try SessionName(name), owner: owner))
    }

    /// The whole frame, header included.
    public func frame(request: UInt64) -> [UInt8] {
        FrameHeader.frame(verb: verb.rawValue, flags: [], request: request) { write(to: &$0) }
    }

    /// The payload alone.
    public func encode() -> [UInt8] {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.bytes
    }

    private func write(to writer: inout ByteWriter) {
        switch self {
        case .hello(let hello): hello.write(to: &writer)
        case .create(let name, let description):
            name.write(to: &writer)
            description.write(to: &writer)
        case .open(let session, let write, let fingerprint):
            session.write(to: &writer)
            writer.bool(write)
            writer.bool(fingerprint != nil)
            writer.string(fingerprint ?? "")
        case .close(let handle), .release(let handle): writer.u32(handle)
        case .commit(let handle, let tokens, let options):
            writer.u32(handle)
            writer.int64(tokens)
            writer.u32(options.rawValue)
        case .inlet(let handle, let after, let wanted):
            writer.u32(handle)
            writer.int64(after)
            writer.int64(wanted)
        case .deliver(let handle, let tokens, let layers):
            writer.u32(handle)
            writer.int64(tokens)
            writer.int32(layers)
        case .sync(let handle, let window):
            writer.u32(handle)
            writer.bool(window)
        case .full(let handle, let layer, let again):
            writer.u32(handle)
            writer.int32(layer)
            writer.bool(again)
        case .recall(let handle, let choices):
            writer.u32(handle)
            writer.list(choices)
        case .truncate(let handle, let tokens):
            writer.u32(handle)
            writer.int64(tokens)
        case .fork(let session, let name, let tokens):
            session.write(to: &writer)
            name.write(to: &writer)
            writer.u64(tokens.map { UInt64($0) } ?? .max)
        case .rename(let name, let newName):
            name.write(to: &writer)
            newName.write(to: &writer)
        case .delete(let session), .suspend(let session), .resume(let session), .show(let session): session.write(to: &writer)
        case .list(let everybody, let after):
            writer.bool(everybody)
            (after?.owner ?? .own).write(to: &writer)
            writer.string(after?.name.text ?? "")
        case .status, .metrics: break
        }
    }
}

extension Hello: WireValue {
    public static var fewestBytes: Int { 4 + 2 + 2 + 2 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        let magic = try reader.u32()
        guard magic == Self.magic else {
            throw CacheError(.badVersion, "the first word of a connection", seen: "\(magic)", expected: "\(Self.magic), “LGKV”")
        }
        lowest = try reader.u16()
        highest = try reader.u16()
        client = try reader.string(atMost: Self.nameBytes)
    }

    public func write(to writer: inout ByteWriter) {
        writer.u32(Self.magic)
        writer.u16(lowest)
        writer.u16(highest)
        writer.string(client, atMost: Self.nameBytes)
    }
}

extension CommitOptions {
    init(from reader: inout ByteReader) throws(CacheError) {
        let bits = try reader.u32()
        guard bits & ~3 == 0 else {
            throw CacheError(.badRequest, "reserved flags of a commit", seen: "\(bits)", expected: "0 to 3")
        }
        self.init(rawValue: bits)
    }
}
