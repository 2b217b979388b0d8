/// Who is at the other end of a connection, as the kernel tells.
public struct Caller: Sendable, Hashable {
    public let user: UInt32
    public let process: UInt32
    /// Root, or the daemon's own user: sees and manages every session.
    public let isAdministrator: Bool

    public init(user: UInt32, process: UInt32, isAdministrator: Bool) {
        self.user = user
        self.process = process
        self.isAdministrator = isAdministrator
    }
}
