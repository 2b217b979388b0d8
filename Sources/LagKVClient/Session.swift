public import CacheModel
internal import LinuxKit
internal import WireProtocol

/// An open session: shared memory, and the daemon's ear.
///
/// The writer (`isWriter`) appends tokens into the shared slabs; a step that completes no chunk makes no system call.
/// Readers see the same memory. Closed when it goes, which ends the writer's lease.
public final class Session {
    public let name: SessionName
    /// User id.
    public let owner: UInt32
    public let description: SessionDescription
    public let isWriter: Bool

    let connection: Connection
    let handle: UInt32
    let layout: SharedLayout
    let slab: MappedFile
    /// Kept for the kernel's count of the slabs' memory.
    private let slabDescriptor: Descriptor
    let control: ControlFile
    private var isOpen = true
    /// The writer's plan for the next tokens; readers have none.
    var plan: WritePlan?

    init(
        _ connection: Connection, _ attachment: Attachment, slab: consuming Descriptor, control: consuming Descriptor
    ) throws(ClientError) {
        self.connection = connection
        name = attachment.row.name
        owner = attachment.row.owner
        description = attachment.row.description
        isWriter = attachment.isWriter
        handle = attachment.handle
        layout = attachment.layout
        do {
            self.slab = try MappedFile(slab, writable: attachment.isWriter)
            let file = try MappedFile(control, writable: false)
            try attachment.layout.check(attachment.row.description, slabBytes: self.slab.byteCount, controlBytes: file.byteCount)
            self.control = try ControlFile(file, attachment.layout)
            slabDescriptor = slab
        } catch let error as KernelError {
            throw .kernel(error)
        } catch let error as ClientError {
            throw error
        } catch {
            fatalError("\(error): nothing else is thrown here")
        }
        if isWriter { try refreshPlan() }
    }

    deinit {
        try? close()
    }

    /// Gives up the session; published tokens are kept. Closing twice does nothing.
    public func close() throws(ClientError) {
        guard isOpen else { return }
        isOpen = false
        guard case .empty = try connection.ask(.close(handle: handle)) else { throw Connection.unexpected(.close) }
    }

    /// The session's mappings stay readable, but nothing can be asked of it any more.
    func markClosed() { isOpen = false }

    func requireOpen() throws(ClientError) {
        guard isOpen else {
            throw .refused(CacheError(.badHandle, "a closed session", seen: name.text, expected: "an open one"))
        }
    }
}

/// What the control file says now.
extension Session {
    /// Logical length: published tokens included.
    /// - Throws: `badHandle` when the session was suspended or deleted meanwhile.
    public var tokens: Int {
        get throws(ClientError) {
            if let plan { return plan.tokens }
            return try consistently { (generation) throws(ClientError) in
                self.length(self.control.header(generation))
            }
        }
    }

    public var sealedChunks: Int {
        get throws(ClientError) {
            try consistently { (generation) throws(ClientError) in self.control.header(generation).sealedChunks }
        }
    }

    /// Tokens that survive a kill of the daemon now.
    public var durableTokens: Int { control.durableTokens }

    /// Bytes of memory that the session's keys and values take, as the kernel counts them.
    public var slabBytesInMemory: Int {
        get throws(ClientError) {
            do { return try FileStatus(of: slabDescriptor).allocatedBytes } catch { throw .kernel(error) }
        }
    }

    /// Changes whenever the layout does; views of an older generation are invalid.
    public var generation: UInt64 { control.generation }

    /// Runs `body` at one generation; it may run more than once.
    func consistently<Value>(_ body: (UInt64) throws(ClientError) -> Value) throws(ClientError) -> Value {
        try requireOpen()
        return try control.consistently(
            whileWaiting: { () throws(ClientError) in
                // Answers as long as the daemon lives; throws when it does not.
                _ = try self.connection.ask(.show(self.reference))
            }, body)
    }

    /// The published count, bounded as PROTOCOL.md says.
    func length(_ header: ControlFile.Header) -> Int {
        let published = Int(clamping: slab.loadAcquire(at: SlabPage.publishedOffset))
        return published >= header.tokens && published < header.boundary ? published : header.tokens
    }

    var reference: SessionReference { SessionReference(name, owner: .user(owner)) }
}
