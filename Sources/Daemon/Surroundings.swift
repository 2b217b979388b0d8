internal import FoundationEssentials
internal import Glibc
internal import LinuxKit

/// What a configuration depends on beside itself, as values, so that a test can be any user on any machine.
public struct Surroundings: Sendable {
    public var environment: [String: String]
    public var userID: UInt32
    public var workingDirectory: String
    /// Bytes of memory of the machine, or what the cgroup allows of them.
    public var memoryBytes: Int
    public var cores: Int
    /// The size of the filesystem that holds a path, or would hold it once created.
    public var diskBytes: @Sendable (_ path: String) -> Int
    /// The text of a file.
    public var text: @Sendable (_ path: String) throws(FileRefusal) -> String

    /// Why a file could not be read.
    public enum FileRefusal: Error, Hashable, CustomStringConvertible {
        case missing
        case unreadable(String)

        public var description: String {
            switch self {
            case .missing: "no such file"
            case .unreadable(let why): why
            }
        }
    }

    public init(
        environment: [String: String], userID: UInt32, workingDirectory: String, memoryBytes: Int, cores: Int,
        diskBytes: @escaping @Sendable (String) -> Int, text: @escaping @Sendable (String) throws(FileRefusal) -> String
    ) {
        self.environment = environment
        self.userID = userID
        self.workingDirectory = workingDirectory
        self.memoryBytes = memoryBytes
        self.cores = cores
        self.diskBytes = diskBytes
        self.text = text
    }
}

// MARK: - Default places

extension Surroundings {
    var defaultSocket: String {
        let directory =
            unitDirectory("RUNTIME_DIRECTORY")
            ?? (userID == 0 ? "/run/lagkvd" : directory("XDG_RUNTIME_DIR") ?? "/tmp/lagkvd-\(userID)")
        return directory + "/lagkvd.sock"
    }

    /// Nil where not even a home directory is known.
    var defaultStateDirectory: String? {
        if let directory = unitDirectory("STATE_DIRECTORY") { return directory }
        if userID == 0 { return "/var/lib/lagkvd" }
        let home = directory("XDG_STATE_HOME") ?? directory("HOME").map { $0 + "/.local/state" }
        return home.map { $0 + "/lagkvd" }
    }

    /// The first of these that exists is read.
    var configurationFiles: [String] {
        let home = directory("XDG_CONFIG_HOME") ?? directory("HOME").map { $0 + "/.config" }
        return (home.map { [$0 + "/lagkvd/lagkvd.conf"] } ?? []) + ["/etc/lagkvd/lagkvd.conf"]
    }

    /// A variable that names an absolute path; the XDG specification says to ignore relative ones.
    private func directory(_ variable: String) -> String? {
        environment[variable].flatMap { $0.hasPrefix("/") ? $0 : nil }
    }

    /// systemd sets STATE_DIRECTORY and RUNTIME_DIRECTORY to colon-separated lists; the unit has one of each.
    private func unitDirectory(_ variable: String) -> String? {
        directory(variable).flatMap { $0.split(separator: ":").first }.map(String.init)
    }
}

// MARK: - This process

extension Surroundings {
    public static func current() -> Self {
        let process = ProcessInfo.processInfo
        return Self(
            environment: process.environment, userID: geteuid(), workingDirectory: FileManager.default.currentDirectoryPath,
            memoryBytes: min(Int(clamping: process.physicalMemory), memoryOfCgroup() ?? .max),
            cores: process.activeProcessorCount,
            diskBytes: sizeOfFilesystem, text: readText)
    }

    /// 0 where not even the root can be asked.
    private static func sizeOfFilesystem(_ path: String) -> Int {
        var url = URL(filePath: path)
        while true {
            let attributes = try? FileManager.default.attributesOfFileSystem(forPath: url.path)
            if let size = attributes?[.systemSize] as? UInt64 { return Int(clamping: size) }
            guard url.path != "/" else { return 0 }
            url.deleteLastPathComponent()
        }
    }

    /// The least `memory.max` on the way from this process's cgroup (version 2) to the root; nil where none is set.
    private static func memoryOfCgroup() -> Int? {
        // Version 2 is the line "0::/system.slice/lagkvd.service".
        guard let text = try? readText("/proc/self/cgroup"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("0::") })
        else { return nil }
        var groups = line.dropFirst("0::".count).split(separator: "/")
        var least: Int?
        while !groups.isEmpty {
            let limit = try? readText("/sys/fs/cgroup/\(groups.joined(separator: "/"))/memory.max")
            // Without a limit the file says "max".
            if let limit, let bytes = Int(limit.prefix(while: \.isNumber)) { least = min(bytes, least ?? .max) }
            groups.removeLast()
        }
        return least
    }

    private static func readText(_ path: String) throws(FileRefusal) -> String {
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(filePath: path))
        } catch {
            guard let posix = (error as? CocoaError)?.underlying as? POSIXError else { throw .unreadable("\(error)") }
            throw posix.code == .ENOENT ? .missing : .unreadable(Kernel.describe(errno: posix.code.rawValue))
        }
        guard bytes.count <= ConfigurationFile.largestSize else { throw .unreadable("\(bytes.count) bytes") }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .unreadable("bytes that are not UTF-8") }
        return text
    }
}
