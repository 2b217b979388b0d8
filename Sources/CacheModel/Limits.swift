/// Every limit has a name, and a comment that says what breaks beyond it. They are part of the wire protocol and of the
/// object format: raising one is a new version of both.
public enum Limits {
    /// Layers of one session. The object index holds an entry for each layer and head; 256 × 256 entries is 4 MiB.
    public static let layers = 256
    /// KV heads of one layer. See `layers`.
    public static let heads = 256
    /// Numbers in one key or one value. The scoring kernels keep one token's channels on the stack.
    public static let channels = 1_024
    /// Tokens of one session (16 Mi). Positions are Int32 in shared memory.
    public static let tokens = 16 << 20
    /// Tokens of the sink. The sink is written with chunk 0, so it must not dwarf a chunk.
    public static let sink = 65_536
    /// Tokens of one chunk. A chunk is staged whole in memory while it is scored and coded.
    public static let lag = 65_536
    /// Fewest tokens of one chunk: a deviation over a softmax of one token says nothing.
    public static let smallestLag = 2
    /// Raw bytes of one chunk over all layers and heads (2 GiB − 4 KiB). One object is written with single requests
    /// whose length the kernel caps there.
    public static let chunkBytes = (2 << 30) - 4_096
    /// Bytes of one session's slabs (64 TiB): half of the address space of a process with 47-bit addresses.
    public static let slabBytes = 64 << 40
    /// UTF-8 bytes of a session name: it is a directory's name, and most filesystems end at 255.
    public static let nameBytes = 128
    /// UTF-8 bytes of a model fingerprint: it is in the header of every object.
    public static let fingerprintBytes = 256
    /// Bytes of one frame's payload (1 MiB). A longer one is refused before it is read.
    public static let frameBytes = 1 << 20
    /// Sessions that one connection may hold open at a time.
    public static let handlesPerConnection = 4_096
    /// Sessions of one user on one daemon.
    public static let sessionsPerUser = 1 << 20
    /// Connections of one user at a time: each holds a file descriptor of the daemon.
    public static let connectionsPerUser = 4_096
    /// Requests of one connection that may wait for their reply at a time; the daemon stops reading beyond it.
    public static let requestsInFlight = 64
    /// Rows of one reply to `list`; the reply says where to go on.
    public static let rowsPerPage = 512
}
