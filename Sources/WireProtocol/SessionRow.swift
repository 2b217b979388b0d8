public import CacheModel

/// What is known of a session now: one row of a listing.
public struct SessionRow: Sendable, Hashable {
    public enum State: UInt8, CaseIterable, Sendable {
        case resident = 1
        case suspended = 2
        public var name: String { String(describing: self) }
    }

    public var name: SessionName
    /// User id.
    public var owner: UInt32
    public var state: State
    public var description: SessionDescription
    /// Logical length, as of the last commit.
    public var tokens: Int
    public var sealedChunks: Int
    /// Tokens that survive a kill of the daemon now.
    public var durableTokens: Int
    /// Bytes of shared memory charged to the budget.
    public var residentBytes: Int
    /// Bytes of its files; files shared with forks count in each.
    public var diskBytes: Int
    /// Process id of the lease's holder, 0 for none.
    public var writer: UInt32
    /// Connections that hold it open without the lease.
    public var readers: UInt32
    /// Milliseconds since 1970.
    public var lastUsed: UInt64
    /// Milliseconds since 1970.
    public var created: UInt64
    /// Empty, or why its chunks are not becoming durable. At most `faultBytes` bytes of it travel.
    public var fault: String

    /// Bytes of UTF-8 of a fault; with it a page of `Limits.rowsPerPage` rows at their longest fits one frame.
    public static let faultBytes = 256

    public init(
        name: SessionName, owner: UInt32, state: State, description: SessionDescription, tokens: Int, sealedChunks: Int,
        durableTokens: Int, residentBytes: Int, diskBytes: Int, writer: UInt32, readers: UInt32, lastUsed: UInt64,
        created: UInt64,
        fault: String = ""
    ) {
        self.name = name
        self.owner = owner
        self.state = state
        self.description = description
        self.tokens = tokens
        self.sealedChunks = sealedChunks
        self.durableTokens = durableTokens
        self.residentBytes = residentBytes
        self.diskBytes = diskBytes
        self.writer = writer
        self.readers = readers
        self.lastUsed = lastUsed
        self.created = created
        self.fault = fault
    }
}

extension SessionRow: WireValue {
    public static var fewestBytes: Int {
        SessionName.fewestBytes + 4 + 1 + SessionDescription.fewestBytes + 5 * 8 + 2 * 4 + 2 * 8 + 2
    }

    public init(from reader: inout ByteReader) throws(CacheError) {
        name = try SessionName(from: &reader)
        owner = try reader.u32()
        let stateNumber = try reader.u8()
        guard let state = State(rawValue: stateNumber) else {
            throw CacheError(.badFrame, "a session's state", seen: "\(stateNumber)", expected: "1 or 2")
        }
        self.state = state
        description = try SessionDescription(from: &reader)
        tokens = try reader.int64()
        sealedChunks = try reader.int64()
        durableTokens = try reader.int64()
        residentBytes = try reader.int64()
        diskBytes = try reader.int64()
        writer = try reader.u32()
        readers = try reader.u32()
        lastUsed = try reader.u64()
        created = try reader.u64()
        fault = try reader.string(atMost: Self.faultBytes)
    }

    public func write(to writer: inout ByteWriter) {
        name.write(to: &writer)
        writer.u32(owner)
        writer.u8(state.rawValue)
        description.write(to: &writer)
        writer.int64(tokens)
        writer.int64(sealedChunks)
        writer.int64(durableTokens)
        writer.int64(residentBytes)
        writer.int64(diskBytes)
        writer.u32(self.writer)
        writer.u32(readers)
        writer.u64(lastUsed)
        writer.u64(created)
        writer.string(fault, atMost: Self.faultBytes)
    }
}
