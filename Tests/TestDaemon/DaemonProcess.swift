public import Foundation

/// A real lagkvd of a test's own: the built executable, with its socket and its state in a temporary directory. Killed, and
/// its directory removed, when it goes.
public final class DaemonProcess {
    public let directory: URL
    /// Beyond the socket and the state directory.
    private let arguments: [String]
    private var process: Process

    public var socket: String { directory.appending(path: "s").path }
    public var stateDirectory: String { directory.appending(path: "state").path }
    public var processID: Int32 { process.processIdentifier }

    /// Where this test's executables were built.
    public static var buildDirectory: URL {
        URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    }

    /// What a daemon that does not come up said.
    public struct NotReady: Error, CustomStringConvertible {
        public var description: String
    }

    /// Returns when the daemon answers.
    public init(_ arguments: [String] = []) throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "lagkvd-test-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        self.arguments = arguments
        process = Process()
        try start()
    }

    deinit {
        process.terminate()
        process.waitUntilExit()
        try? FileManager.default.removeItem(at: directory)
    }

    /// Ends the daemon at once, as a crash would.
    public func kill() {
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// Asks the daemon to stop, and waits until it has.
    /// - Returns: its exit status.
    public func stop() -> Int32 {
        process.terminate()
        process.waitUntilExit()
        return process.terminationStatus
    }

    /// Starts a daemon on what the one before left.
    public func start() throws {
        process = Process()
        process.executableURL = Self.buildDirectory.appending(path: "lagkvd")
        process.arguments = ["--socket", socket, "--state-directory", stateDirectory] + arguments
        // Nothing of the machine's own configuration.
        process.environment = ["HOME": directory.path, "PATH": "/usr/bin:/bin"]
        let log = directory.appending(path: "log")
        try Data().write(to: log)
        process.standardError = try FileHandle(forWritingTo: log)
        try process.run()
        // The daemon binds its socket before it is ready, and answers when it is; what is left from a killed one refuses.
        for _ in 0..<2_000 {
            if isListening { return }
            guard process.isRunning else { break }
            usleep(5_000)
        }
        let said = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
        throw NotReady(description: "\(process.executableURL?.path ?? "") did not come up: \(said)")
    }

    public var log: String {
        (try? String(contentsOf: directory.appending(path: "log"), encoding: .utf8)) ?? ""
    }

    private var isListening: Bool { log.contains("ready on") }
}
