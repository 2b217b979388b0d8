public import CacheModel

/// What has happened since the daemon started. Counters only grow; what *is* (sessions, bytes in use) is asked when it is shown.
public struct Metrics: Sendable {
    public var attaches = 0
    public var sessionsCreated = 0
    public var sessionsDeleted = 0
    public var tokensAppended = 0
    /// Bytes of keys and values that writers have committed with a message.
    public var bytesAppended = 0
    public var chunksSealed = 0
    /// Tokens with a number that is not finite, counted once for each layer and head in which they were kept for it.
    public var abnormalTokens = 0
    public var stagingWaits = 0
    public var chunksSpilled = 0
    /// Raw bytes of the chunks that became durable.
    public var bytesSpilled = 0
    /// Bytes of objects written, coded.
    public var bytesWritten = 0
    /// Bytes of objects read, coded.
    public var bytesRead = 0
    public var diskRefusals = 0
    public var suspends = 0
    public var suspendedUnderPressure = 0
    public var disposed = 0
    public var resumes = 0
    /// Sessions that began in the files, and the memory, of one that was gone.
    public var slabsReused = 0
    /// Tokens of windows that an earlier daemon, which died, had only in memory.
    public var tokensRescued = 0
    public var truncates = 0
    public var chunksUnsealed = 0
    public var forks = 0
    public var recalls = 0
    /// Chunks recalled, counted for each layer and head.
    public var chunksRecalled = 0
    public var bytesRecalled = 0
    public var bytesRehydrated = 0
    public var errors: [ErrorCode: Int] = [:]

    public init() {}
}
