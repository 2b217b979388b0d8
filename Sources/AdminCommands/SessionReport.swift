internal import CacheModel
internal import WireProtocol

/// A row of a listing for programs. The keys are a contract.
struct SessionReport: Encodable {
    var name: String
    var owner: UInt32
    var state: String
    var layers: Int
    var kvHeads: Int
    var keyDim: Int
    var valueDim: Int
    var dtype: String
    var sink: Int
    var lag: Int
    var keepRatio: Double
    var valueWeight: Double
    var uncompressedLayers: [Int]
    var capacity: Int
    var fingerprint: String
    var shared: Bool
    var disposable: Bool
    var tokens: Int
    var sealedChunks: Int
    var durableTokens: Int
    var rawBytes: Int
    var residentBytes: Int
    var diskBytes: Int
    var writer: UInt32
    var readers: UInt32
    var lastUsed: UInt64
    var created: UInt64
    var fault: String

    enum CodingKeys: String, CodingKey {
        case name, owner, state, layers, dtype, sink, lag, capacity, fingerprint, shared, disposable, tokens, writer, readers
        case created, fault
        case kvHeads = "kv_heads"
        case keyDim = "key_dim"
        case valueDim = "value_dim"
        case keepRatio = "keep_ratio"
        case valueWeight = "value_weight"
        case uncompressedLayers = "uncompressed_layers"
        case sealedChunks = "sealed_chunks"
        case durableTokens = "durable_tokens"
        case rawBytes = "raw_bytes"
        case residentBytes = "resident_bytes"
        case diskBytes = "disk_bytes"
        case lastUsed = "last_used_ms"
    }

    init(_ row: SessionRow) {
        let (geometry, policy) = (row.description.geometry, row.description.policy)
        name = row.name.text
        owner = row.owner
        state = row.state.name
        layers = geometry.layers
        kvHeads = geometry.heads
        keyDim = geometry.keyDim
        valueDim = geometry.valueDim
        dtype = geometry.element.name
        sink = policy.sink
        lag = policy.lag
        keepRatio = policy.keepRatio
        valueWeight = policy.valueWeight
        uncompressedLayers = policy.uncompressedLayers
        capacity = row.description.capacity
        fingerprint = row.description.fingerprint
        shared = row.description.isShared
        disposable = row.description.isDisposable
        tokens = row.tokens
        sealedChunks = row.sealedChunks
        durableTokens = row.durableTokens
        rawBytes = row.tokens.multipliedReportingOverflow(by: geometry.tokenBytes).partialValue
        residentBytes = row.residentBytes
        diskBytes = row.diskBytes
        writer = row.writer
        readers = row.readers
        lastUsed = row.lastUsed
        created = row.created
        fault = row.fault
    }
}

/// Rows for people.
enum SessionTable {
    /// - Parameter now: milliseconds since 1970.
    static func list(_ rows: [SessionRow], withOwner: Bool, now: UInt64) -> String {
        guard !rows.isEmpty else { return "no sessions\n" }
        var table = Table(
            (withOwner ? [Table.Column("OWNER", .right)] : []) + [
                Table.Column("NAME"), Table.Column("STATE"), Table.Column("TOKENS", .right), Table.Column("RAW", .right),
                Table.Column("MEMORY", .right), Table.Column("DISK", .right), Table.Column("KEEP", .right), Table.Column("SHAPE"),
                Table.Column("WRITER", .right), Table.Column("READERS", .right), Table.Column("USED", .right),
                Table.Column("FAULT"),
            ])
        for row in rows {
            let report = SessionReport(row)
            table.add(
                (withOwner ? ["\(row.owner)"] : []) + [
                    row.name.text, row.state.name, Units.grouped(row.tokens), Units.bytes(report.rawBytes),
                    row.residentBytes == 0 ? "–" : Units.bytes(row.residentBytes), Units.bytes(row.diskBytes), keep(row),
                    shape(row.description.geometry), row.writer == 0 ? "–" : "\(row.writer)", "\(row.readers)",
                    Units.age(milliseconds: row.lastUsed, now: now), row.fault,
                ])
        }
        return table.render()
    }

    /// Everything known of one session.
    static func show(_ row: SessionRow, now: UInt64) -> String {
        let (geometry, policy) = (row.description.geometry, row.description.policy)
        let raw = SessionReport(row).rawBytes
        var pairs = [
            ("name", row.name.text), ("owner", "user \(row.owner)"), ("state", row.state.name),
            ("shape", "\(shape(geometry)), \(Units.bytes(geometry.tokenBytes)) a token"),
            ("policy", "sink \(policy.sink), lag \(policy.lag), keep \(keep(row)), value weight \(policy.valueWeight)"),
            ("uncompressed layers", list(policy.uncompressedLayers)),
            ("fingerprint", row.description.fingerprint.isEmpty ? "none" : row.description.fingerprint),
            ("sharing", row.description.isShared ? "other users may read it" : "private"),
            ("when the disk is full", row.description.isDisposable ? "may be deleted" : "kept"),
            ("tokens", "\(Units.grouped(row.tokens)) of \(Units.grouped(row.description.capacity)), \(Units.bytes(raw)) raw"),
            ("sealed chunks", Units.grouped(row.sealedChunks)),
            ("durable tokens", Units.grouped(row.durableTokens)),
            ("memory", Units.bytes(row.residentBytes) + share(of: row.residentBytes, raw)),
            ("disk", Units.bytes(row.diskBytes) + share(of: row.diskBytes, raw)),
            ("writer", row.writer == 0 ? "none" : "process \(row.writer)"),
            ("readers", "\(row.readers)"),
            ("last used", ago(row.lastUsed, now)),
            ("created", ago(row.created, now)),
        ]
        if !row.fault.isEmpty { pairs.append(("fault", row.fault)) }
        return Table.pairs(pairs).render()
    }

    /// "30 × 3 × 64 bfloat16", with "64+32" where keys and values differ.
    static func shape(_ geometry: Geometry) -> String {
        let dims = geometry.keyDim == geometry.valueDim ? "\(geometry.keyDim)" : "\(geometry.keyDim)+\(geometry.valueDim)"
        return "\(geometry.layers) × \(geometry.heads) × \(dims) \(geometry.element.name)"
    }

    private static func keep(_ row: SessionRow) -> String { Units.percent(row.description.policy.keepRatio) }

    private static func share(of bytes: Int, _ raw: Int) -> String {
        raw > 0 && bytes > 0 ? " (\(Units.percent(Double(bytes) / Double(raw))) of raw)" : ""
    }

    private static func list(_ layers: [Int]) -> String {
        layers.isEmpty ? "none" : layers.map { "\($0)" }.joined(separator: ", ")
    }

    private static func ago(_ milliseconds: UInt64, _ now: UInt64) -> String {
        let age = Units.age(milliseconds: milliseconds, now: now)
        return age == "now" ? age : "\(age) ago"
    }
}
