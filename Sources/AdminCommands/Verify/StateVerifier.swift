internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Reads everything below a state directory and believes none of it. Never writes; a daemon may be running meanwhile, and
/// what it removes while this looks is left out.
struct StateVerifier: ~Copyable {
    private let root: Descriptor
    private(set) var found: Verification
    private var progress = Progress()
    private let scratch = CodecScratch()
    /// What each file that was read says that it is, by inode: forks share files.
    private var headers: [UInt64: ObjectHeader] = [:]

    /// - Throws: `KernelError` when there is no such directory.
    init(path: String) throws(KernelError) {
        root = try Descriptor.directory(path)
        found = Verification(path: path)
    }

    consuming func run() throws(KernelError) -> Verification {
        let begin = ContinuousClock.now
        for (user, _) in try entries("sessions").filter(\.status.isDirectory) {
            for (name, status) in try entries("sessions/\(user)") {
                let path = "sessions/\(user)/\(name)"
                guard status.isDirectory else {
                    report(CacheError(.corrupt, "a file among sessions", seen: name, expected: "directories only"), path)
                    continue
                }
                do throws(CacheError) {
                    try verifySession(path)
                } catch {
                    report(error, path)
                }
            }
        }
        for directory in ["pending", "trash"] {
            found.leftovers += try entries(directory).map { "\(directory)/\($0.name)" }
        }
        found.seconds = (ContinuousClock.now - begin).inSeconds
        return found
    }

    /// Sorted by name; empty where there is no such directory.
    private func entries(_ path: String) throws(KernelError) -> [(name: String, status: FileStatus)] {
        do {
            return try root.open(path, .directory).entries().sorted { $0.name < $1.name }
        } catch  where error.isNotFound {
            return []
        }
    }

    private mutating func report(_ error: CacheError, _ path: String) {
        found.problems.append(Verification.Problem(error, path: path))
    }

    // MARK: One session

    private mutating func verifySession(_ path: String) throws(CacheError) {
        let entries = try reading(path) { () throws(KernelError) in try self.entries(path) }
        guard let manifest = try readManifest("\(path)/manifest") else {
            // Removed since it was listed, or never one.
            guard !entries.isEmpty else { return }
            throw CacheError(.corrupt, "a session's directory", seen: "no manifest", expected: "a file named manifest")
        }
        found.sessions += 1
        var names: [ObjectName] = []
        for (name, _) in entries where name != "manifest" {
            guard let object = ObjectName(name) else {
                found.leftovers.append("\(path)/\(name)")
                continue
            }
            names.append(object)
        }
        let (durable, stale) = DurableState.read(names)
        found.leftovers += stale.map { "\(path)/\($0.text)" }
        found.tokens += durable.tokens(manifest.description.policy)
        if durable.isBroken {
            report(
                CacheError(
                    .corrupt, "chunks below the window", seen: "\(durable.chunks.count) in a row",
                    expected: "all below \(durable.window?.text ?? "")"), path)
        }
        let inodes = Dictionary(entries.map { ($0.name, $0.status.inode) }, uniquingKeysWith: { first, _ in first })
        verifyObjects(path, durable, manifest.description, inodes)
    }

    /// Every object that counts, and that each names the one before it.
    private mutating func verifyObjects(
        _ path: String, _ durable: DurableState, _ description: SessionDescription, _ inodes: [String: UInt64]
    ) {
        var parent: ObjectID? = ObjectID.none
        for name in durable.chunks + [durable.window].compactMap(\.self) {
            let file = "\(path)/\(name.text)"
            do throws(CacheError) {
                let header = try verifyObject(file, inode: inodes[name.text] ?? 0, description)
                // Removed meanwhile: whatever is there now will be read another time.
                guard let header else { return }
                guard header.name == name else {
                    throw CacheError(.corrupt, "the identity of an object", seen: header.name.text, expected: name.text)
                }
                if case .window(let sealed, _, _) = name, sealed < durable.chunks.count {
                    // Chunks were sealed since this window was written; it hangs from an earlier one.
                } else if let parent, header.parent != parent {
                    throw CacheError(.corrupt, "the predecessor of an object", seen: "\(header.parent)", expected: "\(parent)")
                }
                parent = header.id
            } catch {
                report(error, file)
                parent = nil
            }
        }
    }

    // MARK: One file

    private func readManifest(_ path: String) throws(CacheError) -> Manifest? {
        guard let (buffer, count) = try read(path) else { return nil }
        return try Manifest(parsing: buffer.bytes(0..<count), path: path)
    }

    private mutating func verifyObject(
        _ path: String, inode: UInt64, _ description: SessionDescription
    ) throws(CacheError) -> ObjectHeader? {
        if let known = headers[inode] {
            guard known.geometry == description.geometry, known.policy == description.policy,
                known.fingerprint == description.fingerprint
            else {
                throw CacheError(.corrupt, "what an object was written for", seen: "another session", expected: "the manifest's")
            }
            return known
        }
        guard let (buffer, count) = try read(path) else { return nil }
        let bytes = buffer.bytes(0..<count)
        found.objects += 1
        found.bytes += count
        let soFar = found
        progress.update("\(Units.grouped(soFar.objects)) files, \(Units.bytes(soFar.bytes)), \(soFar.problems.count) problems")
        let header = try ObjectVerifier.verify(bytes, path: path, expecting: description, scratch: scratch)
        headers[inode] = header
        return header
    }

    /// The whole file; nil when there is none any more.
    private func read(_ path: String) throws(CacheError) -> (buffer: AlignedBuffer, count: Int)? {
        do {
            let file = try root.open(path, .existing)
            let buffer = AlignedBuffer(byteCount: max(1, try FileStatus(of: file).size))
            return (buffer, try file.read(into: buffer))
        } catch  where error.isNotFound {
            return nil
        } catch {
            throw CacheError(.diskFailed, "reading a file", seen: "\(error)", expected: "a healthy disk, and the right to read")
        }
    }

    private func reading<Value>(_ path: String, _ body: () throws(KernelError) -> Value) throws(CacheError) -> Value {
        do { return try body() } catch {
            throw CacheError(
                .diskFailed, "listing a directory", seen: "\(error)", expected: "a healthy disk, and the right to read")
        }
    }
}

extension ObjectHeader {
    /// The name that belongs to what the header says.
    var name: ObjectName {
        switch kind {
        case .chunk: .chunk(chunk, sequence: sequence)
        case .window: .window(sealedChunks: chunk, tokens: firstPosition + tokenCount, sequence: sequence)
        }
    }
}
