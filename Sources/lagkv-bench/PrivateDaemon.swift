internal import Foundation
internal import LagKVClient
internal import LinuxKit

/// A daemon of our own, next to this program, on a directory that goes with it.
final class PrivateDaemon {
    let socket: String
    private let state: String
    private let process = Process()

    init(directory: String) throws {
        let base = URL(filePath: directory).standardizedFileURL.path(percentEncoded: false)
        state = base + "/state-\(Kernel.processID)"
        // A socket's path has at most 107 bytes, wherever the disk is.
        socket = NSTemporaryDirectory() + "lagkv-bench-\(Kernel.processID).sock"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        process.executableURL = Bundle.main.executableURL?.deletingLastPathComponent().appending(path: "lagkvd")
        process.arguments = ["--socket", socket, "--state-directory", state, "--log-level", "warning"]
        try process.run()
        for _ in 0..<200 {
            if (try? LagKVClient.connect(path: socket)) != nil { return }
            usleep(25_000)
        }
        throw BenchError.daemon("lagkvd does not answer at \(socket)")
    }

    func connect() throws -> LagKVClient { try LagKVClient.connect(path: socket, as: "lagkv-bench") }

    func stop() {
        process.terminate()
        process.waitUntilExit()
        try? FileManager.default.removeItem(atPath: state)
    }
}
