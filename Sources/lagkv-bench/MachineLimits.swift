internal import Glibc
internal import LinuxKit
internal import Synchronization

/// What this machine can do: what the figures are held against. Each limit is the seconds of one pass; what it is for is measured
/// in turn with it, for what a shared machine can do changes by a third within a minute.
final class MachineLimits {
    /// Bytes of a pass.
    static let byteCount = 512 << 20
    private static let diskThreads = 4
    private static let requestBytes = 8 << 20

    /// Both are in memory, in pages as large as the kernel gives.
    private let source = AlignedBuffer(byteCount: byteCount)
    private let target = AlignedBuffer(byteCount: byteCount)
    /// On the disk that counts.
    private let directory: String
    /// Without a name, all its blocks there, O_DIRECT.
    private let file: Descriptor

    init(directory: String) throws {
        try Kernel.makeDirectories(for: directory + "/limit", mode: 0o700)
        self.directory = directory
        file = try Self.newFile(in: directory)
        // Nothing that compresses, nor pages that were never written.
        for buffer in [source, target] {
            buffer.withUnsafeMutableBytes(0..<Self.byteCount) { bytes in
                for (index, byte) in stride(from: 0, to: bytes.count, by: 8).enumerated() {
                    bytes.storeBytes(of: UInt64(index) &* 0x9E37_79B9_7F4A_7C15, toByteOffset: byte, as: UInt64.self)
                }
            }
        }
        _ = try write(file)
        fsync(file.rawValue)
    }

    private static func newFile(in directory: String) throws -> Descriptor {
        try Descriptor.directory(directory).open(".", .unnamed, direct: true)
    }

    static func gbs(_ seconds: Double) -> Double { Double(byteCount) / 1e9 / seconds }

    // MARK: Memory

    /// One thread adding up words.
    func read() -> Double { Stopwatch.seconds { consume(source.sum()) } }

    /// One thread copying.
    func copy() -> Double {
        let (source, target) = (source, target)
        return Stopwatch.seconds { target.copy(source.bytes, to: 0) }
    }

    // MARK: Disk

    /// Several threads, large requests, over blocks that are there.
    func write() throws -> Double { try write(file) }

    /// Into a new file until it is there after a crash: what whoever promises that is held against.
    func writeNewAndSync() throws -> Double {
        let file = try Self.newFile(in: directory)
        let raw = file.rawValue
        return try write(file) + Stopwatch.seconds { fsync(raw) }
    }

    private func write(_ file: borrowing Descriptor) throws -> Double {
        let (raw, from) = (file.rawValue, source)
        return try transfer { pwrite(raw, from.baseAddress + $0, Self.requestBytes, $0) }
    }

    func readDisk() throws -> Double {
        let (raw, to) = (file.rawValue, target)
        return try transfer { pread(raw, to.baseAddress + $0, Self.requestBytes, $0) }
    }

    private func transfer(_ body: @escaping @Sendable (Int) -> Int) throws -> Double {
        var isGood = true
        let seconds = Stopwatch.seconds {
            isGood = Self.inThreads(Self.diskThreads, Self.byteCount / Self.requestBytes) {
                body($0 * Self.requestBytes) == Self.requestBytes
            }
        }
        guard isGood else { throw BenchError.daemon("\(directory): direct I/O failed") }
        return seconds
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

    /// A byte to another thread and back over a Unix stream socket, median.
    func pingPong() throws -> Double {
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
        let seconds = Stopwatch.median(of: 4_000) {
            send(number, &byte, 1, 0)
            recv(number, &byte, 1, 0)
        }
        shutdown(number, Int32(SHUT_RDWR))
        echo.join()
        return seconds
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
