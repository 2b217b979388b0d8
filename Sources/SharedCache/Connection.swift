public import CacheLoop
internal import CacheModel
internal import LinuxKit

/// One client's connection: what it holds open. Everything it holds ends with it.
@CacheLoop
public final class Connection {
    public let caller: Caller
    private(set) var handles: [UInt32: Handle] = [:]
    private var lastHandle: UInt32 = 0
    /// The file of the last full view that may be overwritten; taken out while it is being filled.
    var lastFull: SharedMemory?
    let inletOwner = InletOwner()
    /// What the next full view is likely to want; taken out while one is made.
    var readAhead: ReadAhead?
    /// Set once, when the socket is gone; nothing is given to it afterwards.
    private(set) var isClosed = false

    public init(caller: Caller) {
        self.caller = caller
    }

    /// What a client's number stands for: a session as it was resident when it was opened.
    struct Handle {
        let session: Session
        let resident: Resident
        let isWriter: Bool
    }

    func add(_ handle: Handle) throws(CacheError) -> UInt32 {
        try CacheError.check("sessions held open by one connection", handles.count + 1, in: 1...Limits.handlesPerConnection)
        guard !isClosed else { throw CacheError(.interrupted, "the connection has ended") }
        repeat { lastHandle &+= 1 } while handles[lastHandle] != nil
        handles[lastHandle] = handle
        return lastHandle
    }

    func takeReadAhead() -> ReadAhead? {
        defer { readAhead = nil }
        return readAhead
    }

    func remove(_ number: UInt32) -> Handle? { handles.removeValue(forKey: number) }

    /// Takes everything it holds away from it, for good.
    /// - Returns: the handles, in the order in which they were given out.
    func close() -> [Handle] {
        isClosed = true
        defer { handles = [:] }
        return handles.sorted { $0.key < $1.key }.map(\.value)
    }
}
