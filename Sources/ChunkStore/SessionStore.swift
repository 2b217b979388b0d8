public import CacheLoop
public import CacheModel
internal import LinuxKit

/// The state directory: every session a directory of its own below its owner's.
///
///     sessions/<uid>/<name>/    manifest, objects (see ObjectName)
///     pending/<number>/         a session being made: it appears by one rename, whole
///     trash/<number>/           a session being removed: it disappears by one rename, whole
///
/// No log, no index file, nothing to repair: opening is listing.
@CacheLoop
public final class SessionStore {
    let device: any Device
    private let entropy: Entropy
    let openObjects = OpenObjects()
    /// Most bytes that files below the directory may take; nil for no limit of ours.
    public var byteLimit: Int?
    /// Bytes of all files, each counted once however many names it has.
    public private(set) var usedBytes = 0
    /// Directories above sessions whose names are known to be durable.
    private var lastingDirectories: Set<String> = []
    /// Paths of sessions whose making failed at the last step, and which could not be taken away for good.
    private var unfinished: Set<String> = []
    /// Files are removed by one task at a time: two that remove names of one file must not both take the other's for the last.
    private let removal = Gate()

    public init(device: any Device, entropy: Entropy) {
        self.device = device
        self.entropy = entropy
    }

    /// Removes what an interrupted creation or deletion left, and lists every session.
    /// - Returns: the sessions, and for each directory that is none, why.
    public func open() async throws(CacheError) -> (sessions: [FoundSession], damaged: [CacheError]) {
        var found: [FoundSession] = []
        var damaged: [CacheError] = []
        for directory in ["sessions", "pending", "trash"] {
            try await reporting("making the state directory") { () throws(DeviceError) in try await makeDirectory(directory) }
        }
        for directory in ["pending", "trash"] {
            for entry in try await list(directory) {
                try await reporting("tidying up") { () throws(DeviceError) in try await destroy("\(directory)/\(entry.name)") }
            }
        }
        // What was tidied away had not been counted.
        usedBytes = 0
        var counted: Set<UInt64> = []
        for user in try await list("sessions") where user.isDirectory {
            guard let owner = UInt32(user.name) else { continue }
            // Names that a killed daemon made may not have been synced; they are relied upon from here on.
            try await reporting("syncing sessions/\(owner)") { () throws(DeviceError) in
                try await makeDirectory("sessions/\(owner)")
                try await device.syncDirectory("sessions/\(owner)")
            }
            for entry in try await list("sessions/\(owner)") where entry.isDirectory {
                do throws(CacheError) {
                    let name = try SessionName(entry.name)
                    let files = try await load("sessions/\(owner)/\(entry.name)", counted: &counted)
                    found.append(FoundSession(owner: owner, name: name, files: files))
                } catch {
                    damaged.append(error)
                }
            }
        }
        return (found, damaged)
    }

    /// Makes a new, empty session.
    public func create(owner: UInt32, name: SessionName, _ manifest: Manifest) async throws(CacheError) -> SessionFiles {
        try await build(owner: owner, name: name, manifest) { _ throws(CacheError) in }
    }

    /// Makes a new session that shares the first `chunks` chunk objects of `source`, and takes `window` for the rest.
    public func fork(
        _ source: SessionFiles, chunks: Int, window: (_ sequence: UInt64) async throws(CacheError) -> EncodedObject,
        owner: UInt32, name: SessionName, _ manifest: Manifest
    ) async throws(CacheError) -> SessionFiles {
        try await build(owner: owner, name: name, manifest) { files throws(CacheError) in
            try await reporting("linking chunk objects") { () throws(DeviceError) in
                for chunk in source.durable.chunks.prefix(chunks) {
                    try await self.device.link("\(source.path)/\(chunk.text)", as: "\(files.path)/\(chunk.text)")
                }
            }
            try await files.relist()
            try await files.publish(window: window(files.takeSequence()))
        }
    }

    /// Everything is made in `pending` and appears by one rename.
    private func build(
        owner: UInt32, name: SessionName, _ manifest: Manifest, fill: (SessionFiles) async throws(CacheError) -> Void
    ) async throws(CacheError) -> SessionFiles {
        let path = "sessions/\(owner)/\(name)"
        if unfinished.contains(path) {
            try await reporting("tidying up") { () throws(DeviceError) in try await abandon(path, owner: owner) }
            unfinished.remove(path)
        }
        let pending = "pending/\(entropy.next())"
        var isNamed = false
        do throws(CacheError) {
            try await reporting("making a session") { () throws(DeviceError) in try await device.makeDirectory(pending) }
            try await write(manifest, to: pending)
            let files = SessionFiles(path: pending, manifest: manifest, store: self)
            try await files.relist()
            try await fill(files)
            try await reporting("making a session") { () throws(DeviceError) in
                try await device.syncDirectory(pending)
                try await makeDirectory("sessions/\(owner)")
                try await device.rename(pending, to: path)
                isNamed = true
                files.moved(to: path)
                try await device.syncDirectory("sessions/\(owner)")
            }
            return files
        } catch {
            if !isNamed {
                // What cannot be removed now is removed at the next start.
                try? await destroy(pending)
            } else if (try? await abandon(path, owner: owner)) == nil {
                unfinished.insert(path)
            }
            throw error
        }
    }

    /// Takes away a session whose name may not be durable, so that no crash brings it back.
    private func abandon(_ path: String, owner: UInt32) async throws(DeviceError) {
        let trash = "trash/\(entropy.next())"
        do throws(DeviceError) {
            try await device.rename(path, to: trash)
        } catch {
            // It is away already, and only its directory was not synced.
            guard error.isNotFound else { throw error }
        }
        try await device.syncDirectory("sessions/\(owner)")
        try? await destroy(trash)
    }

    private func write(_ manifest: Manifest, to directory: String) async throws(CacheError) {
        let bytes = manifest.encoded()
        let buffer = AlignedBuffer(byteCount: bytes.count)
        buffer.withUnsafeMutableBytes(0..<bytes.count) { $0.copyBytes(from: bytes) }
        try reserve(bytes.count)
        do throws(CacheError) {
            try await reporting("writing a manifest") { () throws(DeviceError) in
                let file = try await device.createUnnamed(in: directory)
                try await file.write(buffer, count: bytes.count)
                try await file.sync()
                try await file.publish(as: "\(directory)/manifest")
            }
        } catch {
            release(bytes.count)
            throw error
        }
    }

    /// Renames a session within its owner's name space.
    public func rename(_ files: SessionFiles, owner: UInt32, to name: SessionName) async throws(CacheError) {
        let path = "sessions/\(owner)/\(name)"
        try await reporting("renaming a session") { () throws(DeviceError) in
            try await move(files, to: path, owner: owner)
        }
    }

    /// Renames a session's directory, durably. Where that fails it goes back.
    private func move(_ files: SessionFiles, to path: String, owner: UInt32) async throws(DeviceError) {
        let before = files.path
        try await device.rename(before, to: path)
        files.moved(to: path)
        do throws(DeviceError) {
            try await device.syncDirectory("sessions/\(owner)")
        } catch {
            if (try? await device.rename(path, to: before)) != nil { files.moved(to: before) }
            throw error
        }
    }

    /// Takes a session's name away, durably. Its files are still there until `destroy`.
    public func discard(_ files: SessionFiles, owner: UInt32) async throws(CacheError) {
        try await reporting("deleting a session") { () throws(DeviceError) in
            try await move(files, to: "trash/\(entropy.next())", owner: owner)
        }
    }

    /// Removes the files of a session that was discarded. What cannot be removed now is removed at the next start.
    public func destroy(_ files: SessionFiles) async {
        files.letGo()
        try? await destroy(files.path)
    }

    // MARK: Space

    /// Takes `bytes` of the limit.
    /// - Throws: `diskBudget` when they do not fit.
    func reserve(_ bytes: Int) throws(CacheError) {
        if let byteLimit, usedBytes + bytes > byteLimit {
            throw CacheError(
                .diskBudget, "room for an object of \(bytes) bytes", seen: "\(usedBytes) of \(byteLimit) bytes in use",
                expected: "a larger disk budget, or fewer sessions")
        }
        usedBytes += bytes
    }

    func release(_ bytes: Int) { usedBytes -= bytes }

    /// Removes the named files of a directory. What cannot be removed stays and is counted.
    /// - Returns: bytes of the files removed.
    func remove(_ names: Set<String>, in path: String) async -> Int {
        var removed = 0
        await removal.enter()
        defer { removal.leave() }
        guard let entries = try? await device.list(path) else { return 0 }
        for entry in entries where names.contains(entry.name) {
            guard (try? await device.unlink("\(path)/\(entry.name)")) != nil else { continue }
            removed += entry.size
            if entry.links == 1 { usedBytes -= entry.size }
        }
        return removed
    }

    /// Removes a directory of files, if it is there.
    private func destroy(_ path: String) async throws(DeviceError) {
        do throws(DeviceError) {
            let entries = try await device.list(path)
            _ = await remove(Set(entries.map(\.name)), in: path)
            try await device.removeDirectory(path)
        } catch where error.isNotFound {
            return
        }
    }

    // MARK: Loading

    private func load(_ path: String, counted: inout Set<UInt64>) async throws(CacheError) -> SessionFiles {
        let entries = try await list(path)
        for entry in entries where counted.insert(entry.inode).inserted { usedBytes += entry.size }
        let bytes = try await reporting("reading the session at \(path)") { () throws(DeviceError) in
            let file = try await device.open("\(path)/manifest")
            // One byte more than a manifest has, so that a longer file is seen to be one.
            let buffer = AlignedBuffer(byteCount: Manifest.byteCount + 1)
            return FileBytes(buffer: buffer, range: 0..<(try await file.read(at: 0, count: buffer.byteCount, into: buffer, at: 0)))
        }
        let manifest = try Manifest(parsing: bytes.all, path: "\(path)/manifest")
        let files = SessionFiles(path: path, manifest: manifest, store: self)
        files.adopt(entries)
        return files
    }

    private func list(_ path: String) async throws(CacheError) -> [DirectoryEntry] {
        try await reporting("listing \(path)") { () throws(DeviceError) in try await device.list(path) }
    }

    /// Makes a directory, durably, unless it is there. One that is may be there only until the power fails: it is synced as well.
    private func makeDirectory(_ path: String) async throws(DeviceError) {
        guard !lastingDirectories.contains(path) else { return }
        do throws(DeviceError) {
            try await device.makeDirectory(path)
        } catch {
            guard error.isFileExists else { throw error }
        }
        try await device.syncDirectory(path.contains("/") ? String(path.prefix { $0 != "/" }) : ".")
        lastingDirectories.insert(path)
    }
}

/// A session as it was found on disk.
public struct FoundSession {
    public let owner: UInt32
    public let name: SessionName
    public let files: SessionFiles
}
