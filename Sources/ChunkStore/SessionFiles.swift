public import CacheLoop
public import CacheModel
internal import LinuxKit

/// One session's directory: a manifest that never changes, and its objects.
///
/// Everything that makes a change durable goes in one order: the object is written without a name and synced, named, and the
/// directory synced; only then are the names that it outranks removed. A crash between any two steps leaves the state
/// before or the state after.
@CacheLoop
public final class SessionFiles {
    public let manifest: Manifest
    public private(set) var path: String
    public private(set) var durable = DurableState()
    /// Bytes of the directory's files; those shared with forks count here as well.
    public private(set) var bytes = 0
    /// Names that counted for nothing when the directory was last listed.
    private var stale: [ObjectName] = []
    private var isPrepared = false
    /// Names that were made, and may be gone after a crash: their directory could not be synced.
    private var doubtful: [(name: ObjectName, bytes: Int)] = []
    private let store: SessionStore

    init(path: String, manifest: Manifest, store: SessionStore) {
        self.path = path
        self.manifest = manifest
        self.store = store
    }

    public var description: SessionDescription { manifest.description }
    /// Tokens that can be read back now.
    public var tokens: Int { durable.tokens(description.policy) }

    /// Tokens that a crash leaves, whichever doubtful name it leaves with them.
    public var durableTokens: Int {
        doubtful.reduce(tokens) { min($0, DurableState.read(names + [$1.name]).state.tokens(description.policy)) }
    }

    /// Names that count.
    private var names: [ObjectName] { durable.chunks + [durable.window].compactMap(\.self) }

    func moved(to path: String) { self.path = path }

    /// Takes the directory as it was listed.
    func adopt(_ entries: [DirectoryEntry]) {
        (durable, stale) = DurableState.read(entries.compactMap { ObjectName($0.name) })
        bytes = entries.reduce(0) { $0 + $1.size }
    }

    func relist() async throws(CacheError) {
        adopt(try await reporting("listing \(path)") { () throws(DeviceError) in try await store.device.list(path) })
    }

    /// Removes what a crash left. Must come before the first write: an object from before a truncation would otherwise pass for
    /// the successor of a new one. Where a chunk is missing below the window nothing is touched.
    public func prepareForWriting() async throws(CacheError) {
        guard !isPrepared, !durable.isBroken else { return }
        // Names that a killed daemon made may not have been synced; they are relied upon from here on.
        try await reporting("syncing \(path)") { () throws(DeviceError) in try await store.device.syncDirectory(path) }
        await remove(stale.map(\.text))
        stale = []
        isPrepared = true
    }

    /// Numbers are handed out when an object is made, so that objects written side by side keep their order.
    public func takeSequence() -> UInt64 {
        defer { durable.nextSequence += 1 }
        return durable.nextSequence
    }

    // MARK: Writing

    /// Makes the object of a sealed chunk durable. Chunks come in their order.
    public func publish(chunk: Int, _ object: EncodedObject) async throws(CacheError) {
        let name = ObjectName.chunk(chunk, sequence: object.header.sequence)
        try await put(object, named: name)
        await adopt(name)
    }

    /// Makes the unsealed tokens durable and with them the length of the session: whatever was there beyond is gone.
    public func publish(window object: EncodedObject) async throws(CacheError) {
        let header = object.header
        let name = ObjectName.window(
            sealedChunks: header.chunk, tokens: header.firstPosition + header.tokenCount, sequence: header.sequence)
        try await put(object, named: name)
        await adopt(name)
    }

    private func put(_ object: EncodedObject, named name: ObjectName) async throws(CacheError) {
        try await settle()
        try store.reserve(object.byteCount)
        do throws(CacheError) {
            try await reporting("making an object durable") { () throws(DeviceError) in
                let unnamed = try await store.device.createUnnamed(in: path)
                try await unnamed.write(object.buffer, count: object.byteCount)
                try await unnamed.sync()
                try await unnamed.publish(as: "\(path)/\(name.text)")
            }
        } catch {
            store.release(object.byteCount)
            throw error
        }
        bytes += object.byteCount
        do throws(CacheError) {
            try await reporting("making an object durable") { () throws(DeviceError) in try await store.device.syncDirectory(path) }
        } catch {
            doubtful.append((name, object.byteCount))
            try? await settle()
            throw error
        }
    }

    /// Takes back names that could not be made durable. Until that has been done nothing else becomes durable: after a crash such a
    /// name might outrank what came before it.
    /// - Throws: `diskFailed`, for another time.
    public func settle() async throws(CacheError) {
        guard !doubtful.isEmpty else { return }
        try await reporting("taking back an object") { () throws(DeviceError) in
            for (name, count) in doubtful {
                do throws(DeviceError) {
                    try await store.device.unlink("\(path)/\(name.text)")
                    store.release(count)
                    bytes -= count
                } catch where error.isNotFound {
                    continue
                }
            }
            try await store.device.syncDirectory(path)
        }
        doubtful = []
    }

    private func adopt(_ name: ObjectName) async {
        let next = durable.nextSequence
        let outranked: [ObjectName]
        (durable, outranked) = DurableState.read(names + [name])
        durable.nextSequence = max(next, durable.nextSequence)
        await remove(outranked.map(\.text))
    }

    /// Removes names that nothing reads any more. A failure costs disk space until the next start, nothing else.
    private func remove(_ names: [String]) async {
        guard !names.isEmpty else { return }
        letGo()
        let removed = await store.remove(Set(names), in: path)
        bytes -= removed
    }

    /// Closes the objects that are kept open for the next who reads them.
    public func letGo() { store.openObjects.removeAll(of: self) }

    // MARK: Reading

    /// The object of a chunk, open, its header and index read; those used last are at hand.
    public func open(chunk: Int) async throws(CacheError) -> StoredObject {
        let name = try name(ofChunk: chunk)
        if let object = store.openObjects.get(name, of: self) { return object }
        let object = try await StoredObject.open("\(path)/\(name.text)", on: store.device, expecting: description)
        return try keep(object, name)
    }

    /// The object of a chunk, and its kept part.
    public func openWithKept(chunk: Int, into place: ReadPlace) async throws(CacheError) -> (object: StoredObject, kept: FileBytes) {
        let name = try name(ofChunk: chunk)
        if let object = store.openObjects.get(name, of: self) { return (object, try await object.read(object.index.keptRange, into: place)) }
        let (object, kept) = try await StoredObject.openWithKept(
            "\(path)/\(name.text)", on: store.device, expecting: description, into: place)
        return (try keep(object, name), kept)
    }

    private func name(ofChunk chunk: Int) throws(CacheError) -> ObjectName {
        guard chunk < durable.chunks.count else {
            throw CacheError(.corrupt, "chunk \(chunk) of \(path)", seen: "no object", expected: "one for each sealed chunk")
        }
        return durable.chunks[chunk]
    }

    /// Checks that an object is the one that its name says, and keeps it at hand.
    private func keep(_ object: StoredObject, _ name: ObjectName) throws(CacheError) -> StoredObject {
        try object.check(name)
        store.openObjects.put(object, name, of: self)
        return object
    }

    /// Opens the window's object; nil when there is none, or none that matters.
    public func openWindow() async throws(CacheError) -> StoredObject? {
        guard !durable.isBroken else {
            throw CacheError(
                .corrupt, "chunks of \(path)", seen: "\(durable.chunks.count) chunk objects in a row",
                expected: "all below \(durable.window?.text ?? "")")
        }
        guard let window = durable.window, !durable.windowTokens(description.policy).isEmpty else { return nil }
        let object = try await StoredObject.open("\(path)/\(window.text)", on: store.device, expecting: description)
        try object.check(window)
        return object
    }
}
