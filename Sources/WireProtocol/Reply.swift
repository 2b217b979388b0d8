public import CacheModel

/// What the daemon answers. Several verbs share a shape.
public enum Reply: Sendable, Hashable {
    case hello(Welcome)
    /// With two descriptors: the slab file, then the control file.
    case attachment(Attachment)
    case empty
    case standing(Standing)
    /// With one descriptor.
    case inlet(InletGrant)
    /// With one descriptor.
    case full(FullLayout)
    case row(SessionRow)
    /// At most `Limits.rowsPerPage` rows, which always fit a frame; `more`: the list goes on after the last.
    case rows([SessionRow], more: Bool)
    case status([StatusEntry])
    /// OpenMetrics text.
    case metrics(String)
}

/// The answer to `hello`.
public struct Welcome: Sendable, Hashable {
    public var version: UInt16
    /// For logs: program and version.
    public var daemon: String
    public var processID: UInt64

    public init(version: UInt16 = Hello.version, daemon: String, processID: UInt64) {
        self.version = version
        self.daemon = daemon
        self.processID = processID
    }
}

/// One line of `status`.
public struct StatusEntry: Sendable, Hashable {
    public var key: String
    public var value: String

    public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
    }
}

extension Reply {
    /// - Parameter number: the verb in the frame's header, which repeats the request's.
    /// - Throws: `unknownVerb`, or `badFrame` if the payload is not exactly the reply's fields.
    public init(verb number: UInt16, payload: RawSpan) throws(CacheError) {
        var reader = ByteReader(payload)
        self = try Self.parse(try Verb(wire: number), from: &reader)
        try reader.finish()
    }

    private static func parse(_ verb: Verb, from reader: inout ByteReader) throws(CacheError) -> Reply {
        switch verb {
        case .hello: .hello(try Welcome(from: &reader))
        case .create, .open: .attachment(try Attachment(from: &reader))
        case .close, .rename, .delete, .deliver: .empty
        case .commit, .sync, .recall, .release, .truncate: .standing(try Standing(from: &reader))
        case .inlet: .inlet(try InletGrant(from: &reader))
        case .full: .full(try FullLayout(from: &reader))
        case .fork, .suspend, .resume, .show: .row(try SessionRow(from: &reader))
        case .list: .rows(try reader.list(of: SessionRow.self, atMost: Limits.rowsPerPage), more: try reader.bool())
        case .status: .status(try reader.list(of: StatusEntry.self))
        case .metrics: .metrics(try reader.longString())
        }
    }

    /// The whole frame, header included.
    public func frame(verb: Verb, request: UInt64) -> [UInt8] {
        FrameHeader.frame(verb: verb.rawValue, flags: .reply, request: request) { write(to: &$0) }
    }

    /// The payload alone.
    public func encode() -> [UInt8] {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.bytes
    }

    private func write(to writer: inout ByteWriter) {
        switch self {
        case .hello(let welcome): welcome.write(to: &writer)
        case .attachment(let attachment): attachment.write(to: &writer)
        case .empty: break
        case .standing(let standing): standing.write(to: &writer)
        case .inlet(let grant): grant.write(to: &writer)
        case .full(let layout): layout.write(to: &writer)
        case .row(let row): row.write(to: &writer)
        case .rows(let rows, let more):
            precondition(rows.count <= Limits.rowsPerPage, "a page of \(rows.count) rows")
            writer.list(rows)
            writer.bool(more)
        case .status(let entries): writer.list(entries)
        case .metrics(let text): writer.longString(text)
        }
    }
}

extension Welcome: WireValue {
    public static var fewestBytes: Int { 2 + 2 + 8 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        version = try reader.u16()
        daemon = try reader.string(atMost: Hello.nameBytes)
        processID = try reader.u64()
    }

    public func write(to writer: inout ByteWriter) {
        writer.u16(version)
        writer.string(daemon, atMost: Hello.nameBytes)
        writer.u64(processID)
    }
}

extension StatusEntry: WireValue {
    public static var fewestBytes: Int { 4 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        key = try reader.string()
        value = try reader.string()
    }

    public func write(to writer: inout ByteWriter) {
        writer.string(key)
        writer.string(value)
    }
}
