public import Logging

/// Everything an administrator may decide, as values: all sizes in bytes, all paths absolute.
///
/// `Configuration` fills it from flags, environment and file; tests fill it by hand.
public struct DaemonSettings: Sendable, Hashable {
    /// Where clients connect, unless systemd hands over a listening socket. At most 107 bytes.
    public var socket: String
    /// Permission bits of a socket that the daemon binds itself.
    public var socketMode: UInt16
    /// Where sessions live on disk.
    public var stateDirectory: String
    /// Bytes of shared memory, over all sessions.
    public var memoryBudget: Int
    /// Bytes of shared memory, over the sessions of one user.
    public var memoryBudgetPerUser: Int
    /// Bytes on disk, over all sessions.
    public var diskBudget: Int
    /// Bytes on disk, over the sessions of one user.
    public var diskBudgetPerUser: Int
    /// Bytes of sealed chunks that may wait for the disk before writers have to.
    public var staging: Int
    /// Threads that score and code.
    public var workers: Int
    /// A session unused for this long is suspended; zero: only under memory pressure.
    public var idleSuspend: Duration
    public var logLevel: Logger.Level

    public init(
        socket: String, socketMode: UInt16 = 0o600, stateDirectory: String,
        memoryBudget: Int = 1 << 30, memoryBudgetPerUser: Int = 1 << 30,
        diskBudget: Int = 16 << 30, diskBudgetPerUser: Int = 16 << 30,
        staging: Int = 512 << 20, workers: Int = 2, idleSuspend: Duration = .zero, logLevel: Logger.Level = .info
    ) {
        self.socket = socket
        self.socketMode = socketMode
        self.stateDirectory = stateDirectory
        self.memoryBudget = memoryBudget
        self.memoryBudgetPerUser = memoryBudgetPerUser
        self.diskBudget = diskBudget
        self.diskBudgetPerUser = diskBudgetPerUser
        self.staging = staging
        self.workers = workers
        self.idleSuspend = idleSuspend
        self.logLevel = logLevel
    }
}
