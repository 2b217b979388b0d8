public import CacheLoop
internal import CacheModel
public import LinuxKit

/// The disk as the core sees it: a tree of directories under one root, and a dozen things one can do to it.
///
/// The daemon's device does them through io_uring; the simulator's keeps what was synced apart from what was only
/// written, and loses, tears and refuses from a seed. The core is the same under both.
///
/// What each promises after a crash is POSIX's and ext4's least: bytes are there after `sync` of their file; a name is
/// there (or gone) after `syncDirectory` of its directory; before, either may have happened. A rename is never half done.
/// What throws has changed nothing; a sync that throws has made nothing safe, and may be tried again.
@CacheLoop
public protocol Device: AnyObject {
    /// Offsets, lengths and addresses of reads and writes are multiples of this: 4,096 under O_DIRECT as well as without.
    nonisolated var blockSize: Int { get }

    func makeDirectory(_ path: String) async throws(DeviceError)
    func removeDirectory(_ path: String) async throws(DeviceError)
    func syncDirectory(_ path: String) async throws(DeviceError)
    /// Every name in the directory but `.` and `..`, in any order, each with its size and link count.
    func list(_ path: String) async throws(DeviceError) -> [DirectoryEntry]
    func link(_ path: String, as newPath: String) async throws(DeviceError)
    func rename(_ path: String, to newPath: String) async throws(DeviceError)
    func unlink(_ path: String) async throws(DeviceError)

    /// A new file in `directory` that has no name yet; it vanishes unless `publish` names it.
    func createUnnamed(in directory: String) async throws(DeviceError) -> any DeviceFile
    func open(_ path: String) async throws(DeviceError) -> any DeviceFile
}

/// An open file. Closing happens when the last reference goes.
@CacheLoop
public protocol DeviceFile: AnyObject {
    /// Bytes, as of when it was opened or last written.
    var size: Int { get }
    /// Reads `count` bytes at `offset` into `buffer` at `bufferOffset`.
    /// - Returns: bytes read; fewer than `count` only at the end of the file.
    func read(at offset: Int, count: Int, into buffer: AlignedBuffer, at bufferOffset: Int) async throws(DeviceError) -> Int
    /// Writes the first `count` bytes of `buffer` at the beginning of the file, whole or not at all as far as the caller can
    /// know; `count` need not be a multiple of the block size (the file is cut to it).
    func write(_ buffer: AlignedBuffer, count: Int) async throws(DeviceError)
    func sync() async throws(DeviceError)
    /// Gives an unnamed file its name. `fileExists` if the name is taken.
    func publish(as path: String) async throws(DeviceError)
}

public struct DirectoryEntry: Sendable, Hashable {
    public var name: String
    public var isDirectory: Bool
    public var size: Int
    public var links: Int
    /// Which file it is: hard links of one file share it.
    public var inode: UInt64

    public init(name: String, isDirectory: Bool, size: Int, links: Int, inode: UInt64) {
        self.name = name
        self.isDirectory = isDirectory
        self.size = size
        self.links = links
        self.inode = inode
    }
}

/// What the kernel said, and of what.
public struct DeviceError: Error, Sendable, Hashable, CustomStringConvertible {
    public var operation: String
    public var path: String
    /// The errno.
    public var code: Int32

    public init(operation: String, path: String, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    /// The name is taken.
    public var isFileExists: Bool { code == 17 }
    /// There is no such name.
    public var isNotFound: Bool { code == 2 }

    public var description: String { "\(operation) \(path): \(Kernel.describe(errno: code))" }
}

/// Runs `body`; what the device refuses becomes the error that clients see.
/// - Parameter what: what was tried, as a clause: "reading an object".
@CacheLoop
func reporting<Value>(
    _ what: String, _ body: () async throws(DeviceError) -> Value
) async throws(CacheError) -> Value {
    do throws(DeviceError) {
        return try await body()
    } catch {
        throw CacheError(.diskFailed, what, seen: "\(error)", expected: "a healthy state directory with space left")
    }
}
