internal import CacheLoop
internal import ChunkStore
internal import Glibc
internal import LinuxKit

/// The disk below one directory, through the ring.
///
/// Every path is relative to that directory and stays below it: files are opened with RESOLVE_BENEATH and no symbolic
/// link is followed; what has no such flag (making, linking, renaming, removing) is done only with paths that
/// `checked` has passed.
@CacheLoop
final class UringDevice: Device {
    nonisolated let blockSize = AlignedBuffer.blockSize
    /// What the filesystem can do.
    nonisolated let traits: FilesystemTraits
    let reactor: Reactor
    let compute: any Compute
    /// Bytes of one request to the kernel; longer transfers take several.
    nonisolated let transferLimit: Int
    private let root: RingFile
    /// Begins the hidden names of files that would have none on a better filesystem; its number tells this device's from
    /// those that a crash has left.
    private let hiddenPrefix: String
    private var hiddenCount = 0

    private nonisolated static let hiddenStem = ".unnamed-"

    /// - Parameters:
    ///   - root: the directory.
    ///   - traits: as `FilesystemTraits.probe` found them.
    ///   - compute: for what the ring cannot do: listing a directory, cutting a file.
    ///   - entropy: for a number that no earlier device of this directory had.
    ///   - transferLimit: bytes of one request, a multiple of `blockSize`.
    init(
        root: RingFile, traits: FilesystemTraits, reactor: Reactor, compute: any Compute, entropy: Entropy,
        transferLimit: Int = RingOperation.transferLimit
    ) {
        self.root = root
        self.traits = traits
        self.reactor = reactor
        self.compute = compute
        self.transferLimit = transferLimit
        hiddenPrefix = Self.hiddenStem + String(entropy.next(), radix: 16) + "-"
    }

    func makeDirectory(_ path: String) async throws(DeviceError) {
        try await reporting("create directory", path) { () async throws(KernelError) in
            try await reactor.makeDirectory(try Self.checked(path), in: root)
        }
    }

    func removeDirectory(_ path: String) async throws(DeviceError) {
        try await reporting("remove directory", path) { () async throws(KernelError) in
            try await reactor.unlink(try Self.checked(path), in: root, isDirectory: true)
        }
    }

    func syncDirectory(_ path: String) async throws(DeviceError) {
        try await reporting("sync directory", path) { () async throws(KernelError) in
            try await reactor.sync(try await reactor.open(try Self.checked(path), in: root, .directory))
        }
    }

    func link(_ path: String, as newPath: String) async throws(DeviceError) {
        try await reporting("link", newPath) { () async throws(KernelError) in
            try await reactor.link(try Self.checked(path), as: try Self.checked(newPath), in: root)
        }
    }

    func rename(_ path: String, to newPath: String) async throws(DeviceError) {
        try await reporting("rename", newPath) { () async throws(KernelError) in
            try await reactor.rename(try Self.checked(path), to: try Self.checked(newPath), in: root)
        }
    }

    func unlink(_ path: String) async throws(DeviceError) {
        try await reporting("unlink", path) { () async throws(KernelError) in
            try await reactor.unlink(try Self.checked(path), in: root)
        }
    }

    /// Gives an open file its name. `FileExists` if the name is taken.
    func link(_ file: RingFile, as newPath: String) async throws(KernelError) {
        try await reactor.link(file, as: try Self.checked(newPath), in: root)
    }
}

/// Opening and listing.
extension UringDevice {
    func open(_ path: String) async throws(DeviceError) -> any DeviceFile {
        try await reporting("open", path) { () async throws(KernelError) in
            let file = try await reactor.open(try Self.checked(path), in: root, .existing, direct: traits.usesDirectIO)
            return UringFile(file, path: path, size: try FileStatus(of: file.descriptor).size, isNew: false, on: self)
        }
    }

    func createUnnamed(in directory: String) async throws(DeviceError) -> any DeviceFile {
        try await reporting("create file in", directory) { () async throws(KernelError) in
            let directory = try Self.checked(directory)
            guard !traits.hasUnnamedFiles else {
                let file = try await reactor.open(directory, in: root, .unnamed, direct: traits.usesDirectIO)
                return UringFile(file, path: directory, size: 0, isNew: true, on: self)
            }
            hiddenCount += 1
            let name = "\(hiddenPrefix)\(hiddenCount)"
            let path = directory == "." ? name : "\(directory)/\(name)"
            let file = try await reactor.open(path, in: root, .new, direct: traits.usesDirectIO)
            return UringFile(file, path: path, size: 0, isNew: true, hiddenName: HiddenName(path, in: root), on: self)
        }
    }

    func list(_ path: String) async throws(DeviceError) -> [DirectoryEntry] {
        try await reporting("list", path) { () async throws(KernelError) in
            let (root, path, ours) = (root, try Self.checked(path), hiddenPrefix)
            let answer = await compute.run(.seal) {
                Result { () throws(KernelError) in try Self.entries(of: root.descriptor, path, hiding: ours) }
            }
            return try answer.get()
        }
    }

    /// Leaves out files that have no name as far as the core knows, and removes those that a crash has left behind.
    private nonisolated static func entries(
        of root: borrowing Descriptor, _ path: String, hiding ours: String
    ) throws(KernelError) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        for (name, status) in try root.open(path, .directory).entries() {
            guard !name.hasPrefix(hiddenStem) else {
                if !name.hasPrefix(ours) { try root.open(path, .directory).unlink(name) }
                continue
            }
            entries.append(
                DirectoryEntry(
                    name: name, isDirectory: status.isDirectory, size: status.size, links: status.links, inode: status.inode))
        }
        return entries
    }
}

extension UringDevice {
    /// The path, if it can only lead to something below the root. An empty one means the root.
    nonisolated static func checked(_ path: String) throws(KernelError) -> String {
        if path.isEmpty || path == "." { return "." }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        // The zero byte would end the path early for the kernel.
        guard parts.allSatisfy({ !["", ".", ".."].contains($0) }), !path.utf8.contains(0) else {
            throw KernelError(call: "path", detail: path, code: EINVAL)
        }
        return path
    }

    /// Runs `body`, and says of what it threw what was being done to which path.
    func reporting<Result>(
        _ operation: String, _ path: String, _ body: () async throws(KernelError) -> Result
    ) async throws(DeviceError) -> Result {
        do {
            return try await body()
        } catch {
            throw DeviceError(operation: operation, path: path, code: error.code)
        }
    }
}

/// The name of a file that should have none. It goes with its owner.
final class HiddenName: Sendable {
    let path: String
    private let root: RingFile

    init(_ path: String, in root: RingFile) {
        self.path = path
        self.root = root
    }

    deinit {
        // What cannot be removed now is removed when its directory is next listed by another daemon.
        try? root.descriptor.unlink(path)
    }
}
