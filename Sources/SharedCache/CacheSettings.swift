/// What an administrator may set; all of it can change while the daemon runs.
public struct CacheSettings: Sendable, Hashable {
    /// Bytes of shared memory for all resident sessions.
    public var memoryBudget: Int
    /// The same for one user's sessions; nil for no limit of its own.
    public var memoryBudgetPerUser: Int?
    /// Bytes of files; nil for no limit of its own.
    public var diskBudget: Int?
    public var diskBudgetPerUser: Int?
    /// Bytes of sealed chunks that may wait for the disk, and of those that may be on their way in by inlets; beyond it writers
    /// wait. One chunk is always let in.
    public var staging: Int
    /// Bytes that are read before they are decoded when a session is resumed, and by a full view, also for the next view of a connection
    /// that goes through the layers: what is read for that counts in the memory budget. One chunk is always read.
    public var readAhead: Int
    /// A session that nobody holds open for so long is suspended; nil to suspend only under pressure.
    public var idleSuspendMilliseconds: UInt64?

    public init(
        memoryBudget: Int, memoryBudgetPerUser: Int? = nil, diskBudget: Int? = nil, diskBudgetPerUser: Int? = nil,
        staging: Int = 512 << 20, readAhead: Int = 32 << 20, idleSuspendMilliseconds: UInt64? = nil
    ) {
        self.memoryBudget = memoryBudget
        self.memoryBudgetPerUser = memoryBudgetPerUser
        self.diskBudget = diskBudget
        self.diskBudgetPerUser = diskBudgetPerUser
        self.staging = staging
        self.readAhead = readAhead
        self.idleSuspendMilliseconds = idleSuspendMilliseconds
    }
}
