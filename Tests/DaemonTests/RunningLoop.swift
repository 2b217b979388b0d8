import CacheLoop
import Glibc
import LinuxKit
import LoopTesting

@testable import Daemon

/// Runs the loop on a thread of its own for as long as `body` takes.
func withLoop<Value: Sendable>(
    entries: UInt32 = 64, mode: Ring.Mode = .deferred, _ body: @escaping @CacheLoop @Sendable (Reactor) async throws -> Value
) async throws -> Value {
    try await LoopTurns.withTurn {
        let reactor = try Reactor(ring: Ring(entries: entries, bestMode: mode))
        let thread = KernelThread(name: "loop") {
            do { try reactor.run() } catch { fatalError("the loop ended: \(error)") }
        }
        let result: Result<Value, any Error>
        do { result = .success(try await CacheLoop.start { try await body(reactor) }.value) } catch { result = .failure(error) }
        await reactor.stop()
        thread.join()
        return try result.get()
    }
}

/// A directory that is removed with everything in it.
struct TemporaryDirectory: ~Copyable {
    let path: String

    init(below parent: String) {
        path = "\(parent)/lagkvd-test-\(getpid())-\(UInt64.random(in: 0 ..< .max))"
        guard mkdir(path, 0o700) == 0 else { fatalError("\(path) cannot be made") }
    }

    deinit {
        Self.remove(path)
    }

    private static func remove(_ path: String) {
        if unlink(path) == 0 { return }
        if let directory = try? Descriptor.directory(path), let entries = try? directory.entries() {
            for (name, _) in entries { remove("\(path)/\(name)") }
        }
        rmdir(path)
    }
}

/// What the open descriptors of this process are, as far as `isOurs` says.
func openFiles(where isOurs: (String) -> Bool) throws -> [String] {
    try Descriptor.directory("/proc/self/fd").entries().compactMap { name, _ in
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = readlink("/proc/self/fd/\(name)", &bytes, bytes.count)
        guard count > 0 else { return nil }
        let target = String(decoding: bytes[..<count], as: UTF8.self)
        return isOurs(target) ? target : nil
    }
}
