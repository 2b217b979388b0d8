internal import FoundationEssentials
internal import Glibc
internal import LagKVClient
internal import LinuxKit

/// A daemon for this command alone, with its socket and state in a temporary directory; both go when it does.
struct PrivateDaemon: ~Copyable {
    private let directory: URL
    private let executable: String
    private var process: ChildProcess

    var socket: String { directory.appending(path: "lagkvd.sock").path }
    var stateDirectory: String { directory.appending(path: "state").path }
    var processID: Int32 { process.processID }

    /// - Parameter executable: lagkvd; nil takes the one beside this program.
    init(executable: String?) throws {
        let place = "lagkvctl-\(Kernel.processID)-\(UInt32.random(in: 0...UInt32.max))"
        let directory = FileManager.default.temporaryDirectory.appending(path: place)
        let executable = try executable ?? Self.beside()
        try FileManager.default.createDirectory(
            at: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        do {
            process = try Self.start(executable, directory)
        } catch {
            try? FileManager.default.removeItem(at: directory)
            throw error
        }
        self.directory = directory
        self.executable = executable
    }

    deinit {
        process.stop()
        try? FileManager.default.removeItem(at: directory)
    }

    private static func beside() throws -> String {
        guard let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
            throw CommandFailure(.badFile, "/proc is not mounted: name the daemon with --daemon")
        }
        return URL(filePath: own).deletingLastPathComponent().appending(path: "lagkvd").path
    }

    /// Ends the daemon as a crash would, and starts it again on what is left.
    mutating func killAndStart() throws {
        process.kill()
        process = try Self.start(executable, directory)
    }

    private static func start(_ executable: String, _ directory: URL) throws -> ChildProcess {
        let socket = directory.appending(path: "lagkvd.sock").path
        let log = directory.appending(path: "log").path
        let state = directory.appending(path: "state").path
        let process: ChildProcess
        do {
            process = try ChildProcess(executable, ["--socket", socket, "--state-directory", state], output: log)
        } catch {
            throw CommandFailure(.badFile, "\(error)\nto do: build lagkvd, or name it with --daemon")
        }
        // Ready in milliseconds where all is well. Connecting proves nothing: the kernel keeps a killed daemon's socket for as
        // long as it takes to dismantle its ring. An answer does.
        for _ in 0..<1_000 {
            if (try? LagKVClient.connect(path: socket)) != nil { return process }
            guard process.isRunning() else { break }
            usleep(10_000)
        }
        let said = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
        throw CommandFailure(.unreachable, "\(executable) does not come up:\n\(said)")
    }
}
