internal import Glibc
internal import LinuxKit
internal import Synchronization

/// What this machine can do: the numbers that the figures are held against. GB are 10⁹ bytes.
struct MachineLimits {
    /// One thread adding up 1 GiB of words.
    var readGBs = 0.0
    /// One thread copying 512 MiB that are in memory to 512 MiB that are.
    var copyGBs = 0.0
    /// O_DIRECT, several threads, large requests, on the directory's disk.
    var diskWriteGBs = 0.0
    var diskReadGBs = 0.0
    /// A byte to another thread and back over a Unix stream socket, median.
    var pingPongMicroseconds = 0.0

    var rows: [(String, Double, String)] {
        [
            ("limit: plain read, one thread", readGBs, "GB/s"), ("limit: memcpy, one thread", copyGBs, "GB/s"),
            ("limit: disk write, O_DIRECT", diskWriteGBs, "GB/s"), ("limit: disk read, O_DIRECT", diskReadGBs, "GB/s"),
            ("limit: Unix-socket ping-pong, p50", pingPongMicroseconds, "µs"),
        ]
    }

    static func measure(directory: String) throws -> MachineLimits {
        var limits = MachineLimits()
        let (source, target) = (AlignedBuffer(byteCount: 512 << 20), AlignedBuffer(byteCount: 512 << 20))
        source.withUnsafeMutableBytes(0..<source.byteCount) { bytes in
            for (index, byte) in stride(from: 0, to: bytes.count, by: 8).enumerated() {
                bytes.storeBytes(of: UInt64(index) &* 0x9E37_79B9_7F4A_7C15, toByteOffset: byte, as: UInt64.self)
            }
        }
        limits.copyGBs = Double(source.byteCount) / 1e9 / Stopwatch.best(of: 5) { target.copy(source.bytes, to: 0) }
        limits.readGBs = Double(source.byteCount) / 1e9 / Stopwatch.best(of: 5) { consume(source.sum()) }
        (limits.diskWriteGBs, limits.diskReadGBs) = try disk(directory, source)
        limits.pingPongMicroseconds = try pingPong()
        return limits
    }

    // MARK: Disk

    private static let diskThreads = 4
    private static let requestBytes = 8 << 20

    private static func disk(_ directory: String, _ source: AlignedBuffer) throws -> (write: Double, read: Double) {
        try Kernel.makeDirectories(for: directory + "/limit", mode: 0o700)
        let file = try Descriptor.directory(directory).open(".", .unnamed, direct: true)
        let requests = source.byteCount / requestBytes
        func transfer(_ body: @escaping @Sendable (Int) -> Int) throws -> Double {
            var failure = false
            let seconds = Stopwatch.seconds {
                failure = !inThreads(diskThreads, requests) { body($0 * requestBytes) == requestBytes }
            }
            if failure { throw BenchError.daemon("\(directory): direct I/O failed") }
            return Double(source.byteCount) / 1e9 / seconds
        }
        let raw = file.rawValue
        // The file's blocks are there before it counts.
        _ = try transfer { pwrite(raw, source.baseAddress + $0, requestBytes, $0) }
        fsync(raw)
        let writes = try (0..<3).map { _ in try transfer { pwrite(raw, source.baseAddress + $0, requestBytes, $0) } }
        fsync(raw)
        let target = AlignedBuffer(byteCount: source.byteCount)
        let reads = try (0..<3).map { _ in try transfer { pread(raw, target.baseAddress + $0, requestBytes, $0) } }
        return (writes.max()!, reads.max()!)
    }

    /// Runs `body` for 0 ..< `count` on several threads.
    /// - Returns: whether all of them said so.
    private static func inThreads(_ threads: Int, _ count: Int, _ body: @escaping @Sendable (Int) -> Bool) -> Bool {
        let next = Mutex(0)
        let isGood = Mutex(true)
        let workers = (0..<threads).map { index in
            KernelThread(name: "disk-\(index)") {
                while true {
                    let mine = next.withLock { next -> Int in
                        defer { next += 1 }
                        return next
                    }
                    guard mine < count else { return }
                    if !body(mine) { isGood.withLock { $0 = false } }
                }
            }
        }
        for worker in workers { worker.join() }
        return isGood.withLock { $0 }
    }

    // MARK: Socket

    private static func pingPong() throws -> Double {
        var numbers: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &numbers) == 0 else {
            throw BenchError.daemon("socketpair: \(Kernel.describe(errno: errno))")
        }
        let near = Descriptor(owning: numbers[0])
        let far = numbers[1]
        let echo = KernelThread(name: "echo") {
            var byte: UInt8 = 0
            while recv(far, &byte, 1, 0) == 1, send(far, &byte, 1, 0) == 1 {}
            close(far)
        }
        let number = near.rawValue
        var byte: UInt8 = 1
        let seconds = Stopwatch.median(of: 20_000) {
            send(number, &byte, 1, 0)
            recv(number, &byte, 1, 0)
        }
        shutdown(number, Int32(SHUT_RDWR))
        echo.join()
        return seconds * 1e6
    }
}

/// Keeps the compiler from leaving out work whose result nobody wants.
@_optimize(none)
func consume<Value>(_ value: Value) {}

extension AlignedBuffer {
    /// The sum of its words: reading all of it, and nothing else. Not inlined, for a loop around it must not be done once.
    @inline(never)
    func sum() -> UInt64 {
        withUnsafeBytes(0..<byteCount) { bytes in
            bytes.withMemoryRebound(to: SIMD8<UInt64>.self) { words in
                var sums = (SIMD8<UInt64>.zero, SIMD8<UInt64>.zero, SIMD8<UInt64>.zero, SIMD8<UInt64>.zero)
                for index in stride(from: 0, to: words.count - 3, by: 4) {
                    sums.0 &+= words[index]
                    sums.1 &+= words[index + 1]
                    sums.2 &+= words[index + 2]
                    sums.3 &+= words[index + 3]
                }
                return (sums.0 &+ sums.1 &+ sums.2 &+ sums.3).wrappedSum()
            }
        }
    }
}
