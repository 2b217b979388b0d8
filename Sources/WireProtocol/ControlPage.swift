/// The first page of a session's control file, which clients map read-only.
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | 8 bytes | magic |
/// | 8 | u32 | version |
/// | 12 | u32 | state |
/// | 16 | u64 | generation |
/// | 24 | u64 | tokens |
/// | 32 | u64 | sealedChunks |
/// | 40 | u64 | durableTokens |
/// | 48 | u64 | boundary |
/// | 56 | u64 | grant |
/// | 64 | 2 × u64 | lastChunk |
public enum ControlPage {
    /// "LAGKVCTL", as the little-endian u64 at offset 0.
    public static let magic: UInt64 = 0x4C54_4356_4B47_414C
    public static let magicOffset = 0
    /// u32: `layoutVersion`.
    public static let versionOffset = 8
    public static let layoutVersion: UInt32 = 1
    /// u32: a `State`.
    public static let stateOffset = 12
    /// u64: even while the layout is stable, odd while the daemon changes it.
    public static let generationOffset = 16
    /// u64: logical length at this generation.
    public static let tokensOffset = 24
    public static let sealedChunksOffset = 32
    /// u64: may grow without a change of generation.
    public static let durableTokensOffset = 40
    /// u64: the least count whose commit needs a message.
    public static let boundaryOffset = 48
    /// u64: the most tokens the next commit may declare.
    public static let grantOffset = 56
    /// Two u64, high then low: the identity of the last sealed chunk's object, 0 if there is none. For the daemon that comes after this
    /// one: it tells the history in memory from another on disk.
    public static let lastChunkOffset = 64
    /// Bytes of the fields above; what the daemon keeps beyond them begins at `SharedLayout.layerTableOffset`.
    public static let byteCount = 80

    /// An entry of the layer table: `u64 rows, u64 recalled`.
    public static let layerEntryBytes = 16
    public static let rowsInEntry = 0
    public static let recalledInEntry = 8

    public enum State: UInt32, CaseIterable, Sendable {
        case resident = 1
        /// Open the session again to go on.
        case suspended = 2
        case deleted = 3
    }
}

/// The first page of a session's slab file, which its writer maps writable: everything in it is untrusted.
public enum SlabPage {
    /// u64: the writer's count of tokens, stored with release order.
    public static let publishedOffset = 0
    /// The rest of the page is unused.
    public static let byteCount = 4_096
}
