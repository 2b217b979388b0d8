import CacheLoop
import ChunkStore
import LinuxKit

/// A disk that remembers two things of every file and directory: what is there now, and what a crash would leave.
///
/// The fault model, in words. What is promised is what `Device` promises and nothing more:
///
/// - The bytes of a file are safe once the file was synced. What was written after that, or never synced, is after a crash,
///   sector by sector (512 bytes), either there or not; the file's length is anything up to what was written.
/// - A change of a directory (a name made, removed, renamed) is safe once that directory was synced. Of the changes since,
///   a crash leaves none, all, a beginning, or any subset. A rename is one change of both its directories: syncing either
///   makes the whole of it safe, and no crash leaves half of it.
/// - A file without a name is gone.
/// - An operation under way at the crash may have happened or not.
/// - While the disk is ill, an operation fails with EIO, or with ENOSPC where it needs room, at random or because a limit of
///   bytes is reached. An operation that fails has done nothing; a sync that fails has made nothing safe.
/// - Completions come in any order, and some come late.
/// - A read may bring bytes with one bit flipped. The bytes on the disk are not changed by it, and reading again helps.
///
/// Faults lie over the bytes, never in them: `Faults` is what goes wrong from now on, and with `Faults()` the disk is healthy
/// again, with everything that was ever acknowledged.
@CacheLoop
final class SimulatedDisk {
    /// A file or a directory.
    final class Node {
        let number: UInt64
        let isDirectory: Bool
        /// A file's bytes, now and after a crash; nil when it was never synced.
        var written: [UInt8] = []
        var synced: [UInt8]?
        /// A directory's names, now and after a crash.
        var entries: [String: Node] = [:]
        var lasting: [String: Node] = [:]
        /// Names, now.
        var links = 0

        init(number: UInt64, isDirectory: Bool) {
            self.number = number
            self.isDirectory = isDirectory
        }
    }

    /// What happens to a name.
    private struct Change {
        let directory: Node
        let name: String
        /// Nil: the name goes.
        let node: Node?
    }

    var faults = Faults()
    private let root = Node(number: 1, isDirectory: true)
    private var lastNumber: UInt64 = 1
    /// Changes of directories that a crash may undo, oldest first; those of one operation together.
    private var unsynced: [[Change]] = []

    nonisolated init() {}
}

/// What goes wrong. Shares are per thousand operations.
struct Faults: Sendable {
    var errors = 0
    var outOfSpace = 0
    /// Bytes of files that fit.
    var byteLimit: Int?
    var slow = 0
    var flippedReads = 0
    /// Broken on purpose: a sync of a file, or of a directory, that is acknowledged and not done. For the oracle to catch.
    var forgottenFileSyncs = 0
    var forgottenDirectorySyncs = 0
}

extension SimulatedDisk {
    private enum Errno {
        static let noEntry: Int32 = 2
        static let exists: Int32 = 17
        static let notDirectory: Int32 = 20
        static let isDirectory: Int32 = 21
        static let notEmpty: Int32 = 39
    }

    private func error(_ operation: String, _ path: String, _ code: Int32) -> DeviceError {
        DeviceError(operation: operation, path: path, code: code)
    }

    // MARK: Paths

    func node(_ path: String) throws(DeviceError) -> Node {
        var node = root
        for part in path.split(separator: "/") where part != "." {
            guard node.isDirectory else { throw error("find", path, Errno.notDirectory) }
            guard let next = node.entries[String(part)] else { throw error("find", path, Errno.noEntry) }
            node = next
        }
        return node
    }

    private func directory(_ path: String) throws(DeviceError) -> Node {
        let node = try node(path)
        guard node.isDirectory else { throw error("find", path, Errno.notDirectory) }
        return node
    }

    /// The directory that holds the last name of `path`, and that name.
    private func place(_ path: String) throws(DeviceError) -> (directory: Node, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (root, path) }
        return (try directory(String(path[..<slash])), String(path[path.index(after: slash)...]))
    }

    // MARK: Directories

    func makeDirectory(_ path: String) throws(DeviceError) {
        let (parent, name) = try place(path)
        guard parent.entries[name] == nil else { throw error("make", path, Errno.exists) }
        change([Change(directory: parent, name: name, node: makeNode(isDirectory: true))])
    }

    func removeDirectory(_ path: String) throws(DeviceError) {
        let (parent, name) = try place(path)
        guard try directory(path).entries.isEmpty else { throw error("remove", path, Errno.notEmpty) }
        change([Change(directory: parent, name: name, node: nil)])
    }

    func list(_ path: String) throws(DeviceError) -> [DirectoryEntry] {
        try directory(path).entries.sorted { $0.key < $1.key }.map { name, node in
            DirectoryEntry(
                name: name, isDirectory: node.isDirectory, size: node.written.count, links: node.links, inode: node.number)
        }
    }

    func link(_ node: Node, as path: String) throws(DeviceError) {
        let (parent, name) = try place(path)
        guard parent.entries[name] == nil else { throw error("link", path, Errno.exists) }
        change([Change(directory: parent, name: name, node: node)])
    }

    func unlink(_ path: String) throws(DeviceError) {
        let (parent, name) = try place(path)
        guard try !node(path).isDirectory else { throw error("unlink", path, Errno.isDirectory) }
        change([Change(directory: parent, name: name, node: nil)])
    }

    /// As rename(2): a file replaces a file, a directory only an empty one.
    func rename(_ path: String, to newPath: String) throws(DeviceError) {
        let (from, name) = try place(path)
        let (to, newName) = try place(newPath)
        let moved = try node(path)
        if let target = to.entries[newName] {
            guard target.isDirectory == moved.isDirectory else {
                throw error("rename", newPath, target.isDirectory ? Errno.isDirectory : Errno.notDirectory)
            }
            guard target.entries.isEmpty else { throw error("rename", newPath, Errno.notEmpty) }
        }
        change([Change(directory: from, name: name, node: nil), Change(directory: to, name: newName, node: moved)])
    }

    func makeNode(isDirectory: Bool) -> Node {
        lastNumber += 1
        return Node(number: lastNumber, isDirectory: isDirectory)
    }

    private func change(_ changes: [Change]) {
        for change in changes {
            change.directory.entries[change.name]?.links -= 1
            change.directory.entries[change.name] = change.node
            change.node?.links += 1
        }
        unsynced.append(changes)
    }

    // MARK: Making safe

    func syncDirectory(_ path: String) throws(DeviceError) {
        let synced = try directory(path)
        var touched: Set<Place> = []
        var safe: [[Change]] = []
        var left: [[Change]] = []
        // What happened earlier to a name that becomes safe goes with it, or it would come later.
        for changes in unsynced.reversed() {
            let places = changes.map { Place(directory: $0.directory.number, name: $0.name) }
            if changes.contains(where: { $0.directory === synced }) || places.contains(where: touched.contains) {
                touched.formUnion(places)
                safe.append(changes)
            } else {
                left.append(changes)
            }
        }
        unsynced = left.reversed()
        for changes in safe.reversed() { makeLasting(changes) }
    }

    private struct Place: Hashable {
        let directory: UInt64
        let name: String
    }

    private func makeLasting(_ changes: [Change]) {
        for change in changes { change.directory.lasting[change.name] = change.node }
    }

    /// Bytes of all files that have a name, each once.
    var usedBytes: Int {
        var counted: Set<UInt64> = []
        return sum(of: root, &counted)
    }

    private func sum(of node: Node, _ counted: inout Set<UInt64>) -> Int {
        guard counted.insert(node.number).inserted else { return 0 }
        return node.entries.values.reduce(node.written.count) { $0 + sum(of: $1, &counted) }
    }
}

/// Losing power.
extension SimulatedDisk {
    /// Leaves what a crash leaves.
    func crash(_ numbers: inout SeededNumbers) {
        let whole = unsynced.count
        switch numbers.number(in: 0...3) {
        case 0: unsynced.removeAll()
        case 1: break
        case 2: unsynced.removeLast(numbers.number(in: 0...whole))
        default: unsynced = unsynced.filter { _ in numbers.once(in: 2) }
        }
        for changes in unsynced { makeLasting(changes) }
        unsynced = []
        var seen: Set<UInt64> = []
        settle(root, &seen, &numbers)
    }

    /// What lasts is what there is from now on.
    private func settle(_ directory: Node, _ seen: inout Set<UInt64>, _ numbers: inout SeededNumbers) {
        directory.entries = directory.lasting
        for (_, node) in directory.entries.sorted(by: { $0.key < $1.key }) {
            if seen.insert(node.number).inserted {
                node.links = 0
                if node.isDirectory { settle(node, &seen, &numbers) } else { tear(node, &numbers) }
            }
            node.links += 1
        }
    }

    private func tear(_ file: Node, _ numbers: inout SeededNumbers) {
        defer { file.synced = file.written }
        guard file.synced != file.written else { return }
        let before = file.synced ?? []
        if file.synced == nil { file.written.removeLast(numbers.number(in: 0...file.written.count)) }
        for sector in stride(from: 0, to: file.written.count, by: 512) where numbers.once(in: 2) {
            for index in sector..<min(sector + 512, file.written.count) {
                file.written[index] = index < before.count ? before[index] : 0
            }
        }
    }
}
