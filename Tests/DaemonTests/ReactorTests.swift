import CacheLoop
import Glibc
import LinuxKit
import LoopTesting
import Testing

@testable import Daemon

@Suite("the loop on the ring", .timeLimit(.minutes(1)))
struct ReactorTests {
    /// A connection to itself: the daemon's end, and the client's.
    private static func pair(_ reactor: Reactor) async throws -> (RingFile, Int32) {
        let path = "/tmp/lagkvd-loop-\(getpid())-\(UInt64.random(in: 0 ..< .max))"
        let listener = RingFile(try UnixSocket.listen(at: path).takeDescriptor())
        let client = try UnixSocket.connect(to: path).takeDescriptor().release()
        unlink(path)
        return (try await reactor.accept(on: listener), client)
    }

    @Test("work that comes from other threads wakes the loop, and none is forgotten", arguments: Ring.Mode.allCases)
    func wakeUps(mode: Ring.Mode) async throws {
        let sum = try await withLoop(mode: mode) { reactor in
            let total = Counter()
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask { @concurrent in
                        for _ in 0..<500 {
                            await total.add()
                            await Task.yield()
                        }
                    }
                }
            }
            return total.value
        }
        #expect(sum == 4_000)
    }

    @CacheLoop
    private final class Counter {
        var value = 0
        func add() { value += 1 }
    }

    @Test("a request arrives, and its reply goes back with descriptors")
    func roundTrip() async throws {
        try await withLoop { reactor in
            let (server, clientNumber) = try await Self.pair(reactor)
            let client = UnixSocket(owning: Descriptor(owning: clientNumber))
            try client.send(Array("hello".utf8).span.bytes)
            let buffer = AlignedBuffer(byteCount: 4_096)
            #expect(try await reactor.receive(from: server, into: buffer, 0..<4_096) == 5)
            let text = buffer.withUnsafeBytes(0..<5) { String(decoding: $0, as: UTF8.self) }
            #expect(text == "hello")

            let memory = try SharedMemory.create(name: "reply", byteCount: 4_096)
            memory.storeRelease(41, at: 0)
            var outgoing = PassedDescriptors()
            outgoing.append(try memory.readOnlyDescriptor())
            try await reactor.send(Array("reply".utf8), descriptors: outgoing, on: server)
            var incoming = PassedDescriptors()
            #expect(try client.receive(byteCount: 5, descriptors: &incoming) == Array("reply".utf8))
            guard let descriptor = incoming.takeFirst() else {
                Issue.record("no descriptor came")
                return
            }
            #expect(try MappedFile(descriptor, writable: false).loadAcquire(at: 0) == 41)
        }
    }

    @Test("a message larger than the socket's buffer goes out whole while the other side reads slowly")
    func largeMessage() async throws {
        try await withLoop { reactor in
            let (server, clientNumber) = try await Self.pair(reactor)
            let reader = Task { @concurrent in
                let client = UnixSocket(owning: Descriptor(owning: clientNumber))
                var descriptors = PassedDescriptors()
                return try client.receive(byteCount: 4 << 20, descriptors: &descriptors)
            }
            let message = (0..<4 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            try await reactor.send(message, on: server)
            #expect(try await reader.value == message)
        }
    }

    @Test("descriptors that a client sends are closed unseen")
    func unwantedDescriptors() async throws {
        try await withLoop { reactor in
            let (server, clientNumber) = try await Self.pair(reactor)
            let client = UnixSocket(owning: Descriptor(owning: clientNumber))
            let name = "unwanted-\(UInt64.random(in: 0 ..< .max))"
            let memory = try SharedMemory.create(name: name, byteCount: 4_096)
            try client.send([UInt8](repeating: 1, count: 1).span.bytes, descriptors: [try memory.writableDescriptor().release()])
            let before = try openFiles { $0.contains(name) }.count
            let buffer = AlignedBuffer(byteCount: 4_096)
            #expect(try await reactor.receive(from: server, into: buffer, 0..<4_096) == 1)
            let after = try openFiles { $0.contains(name) }.count
            #expect(after == before)
        }
    }

    @Test("the end of a connection is no bytes for a reader and an error for a writer")
    func disconnection() async throws {
        try await withLoop { reactor in
            let (server, clientNumber) = try await Self.pair(reactor)
            close(clientNumber)
            let buffer = AlignedBuffer(byteCount: 4_096)
            #expect(try await reactor.receive(from: server, into: buffer, 0..<10) == 0)
            let error = await #expect(throws: KernelError.self) { try await reactor.send([1, 2, 3], on: server) }
            #expect(error?.code == EPIPE)
        }
    }

    @Test("far more operations than the ring has room for are all carried out", arguments: Ring.Mode.allCases)
    func fullRing(mode: Ring.Mode) async throws {
        let done = try await withLoop(entries: 4, mode: mode) { reactor in
            let file = try await reactor.open("null", in: RingFile(try .directory("/dev")), .existing)
            let tasks = (0..<1_000).map { _ in
                CacheLoop.start { try await reactor.read(file, at: 0, into: AlignedBuffer(byteCount: 1), 0..<64) }
            }
            var done = 0
            for task in tasks where try await task.value == 0 { done += 1 }
            return done
        }
        #expect(done == 1_000)
    }

    @Test("cancelling a file's operations ends those, and no others")
    func cancellation() async throws {
        try await withLoop { reactor in
            let (first, firstClient) = try await Self.pair(reactor)
            let (second, secondClient) = try await Self.pair(reactor)
            let started = Signal()
            let receive = { @CacheLoop @Sendable (socket: RingFile) in
                CacheLoop.start {
                    started.fire()
                    return try await reactor.receive(from: socket, into: AlignedBuffer(byteCount: 1), 0..<1)
                }
            }
            let cancelled = receive(first)
            await started.wait()
            let untouched = receive(second)
            await started.wait()
            reactor.cancelOperations(on: first)
            let error = await #expect(throws: KernelError.self) { try await cancelled.value }
            #expect(error?.code == ECANCELED)
            #expect(write(secondClient, "x", 1) == 1)
            #expect(try await untouched.value == 1)
            close(firstClient)
            close(secondClient)
        }
    }

    @Test("stopping ends what waits, leaves no descriptor behind, and later operations are refused")
    func stopping() async throws {
        try await LoopTurns.withTurn {
            let reactor = try Reactor(ring: Ring(entries: 8))
            let thread = KernelThread(name: "loop") {
                do { try reactor.run() } catch { fatalError("the loop ended: \(error)") }
            }
            let waiting = CacheLoop.start { () -> (waited: Int32, late: Int32) in
                let (server, client) = try await Self.pair(reactor)
                defer { close(client) }
                let periodic = CacheLoop.start {
                    while !Task.isCancelled { await reactor.sleep(milliseconds: 1 << 40) }
                }
                CacheLoop.start { reactor.stop() }
                var waited: Int32 = 0
                do throws(KernelError) {
                    _ = try await reactor.receive(from: server, into: AlignedBuffer(byteCount: 1), 0..<1)
                } catch {
                    waited = error.code
                }
                await periodic.value
                return (waited, await reactor.perform(.sync(server.rawValue), keeping: [server]))
            }
            let codes = try await waiting.value
            thread.join()
            #expect(codes == (ECANCELED, -ECANCELED))
            let left = try openFiles { $0.contains("[io_uring]") }
            #expect(left == [])
        }
    }

    @Test("shorter sleeps end before longer ones")
    func sleeping() async throws {
        let order = try await withLoop { reactor in
            let clock = RingClock(reactor)
            let before = clock.monotonicMilliseconds
            let order = Order()
            let tasks = [200, 1, 100].map { (milliseconds: UInt64) in
                CacheLoop.start {
                    await clock.sleep(milliseconds: milliseconds)
                    order.values.append(milliseconds)
                }
            }
            for task in tasks { await task.value }
            #expect(clock.monotonicMilliseconds >= before + 200)
            #expect(clock.wallMilliseconds > 1_700_000_000_000)
            return order.values
        }
        #expect(order == [1, 100, 200])
    }

    @CacheLoop
    private final class Order {
        var values: [UInt64] = []
    }

    @Test("signals are read one by one")
    func signals() async throws {
        try await withLoop { reactor in
            // Made on the loop's thread, so that it blocks the signals there; and sent to that thread alone.
            let source = RingFile(try SignalDescriptor([SIGUSR1, SIGUSR2]).takeDescriptor())
            pthread_kill(pthread_self(), SIGUSR2)
            #expect(try await reactor.nextSignal(from: source) == SIGUSR2)
            let waiting = CacheLoop.start { try await reactor.nextSignal(from: source) }
            await reactor.sleep(milliseconds: 1)
            pthread_kill(pthread_self(), SIGUSR1)
            #expect(try await waiting.value == SIGUSR1)
        }
    }

    @Test("an error names the call, the path and the errno")
    func errors() async throws {
        let error = try await withLoop { reactor in
            await #expect(throws: KernelError.self) {
                _ = try await reactor.open("no/such", in: RingFile(try .directory("/tmp")), .existing)
            }
        }
        #expect(error?.description == "openat2 no/such: ENOENT (No such file or directory)")
    }
}

@Suite("the operations in flight")
struct OperationTableTests {
    @Test("a number whose slot was used again names nobody")
    func lateCompletions() async {
        var table = OperationTable()
        let first = await resumed(&table, isPatient: true)
        let second = await resumed(&table, isPatient: false)
        #expect(first != second && UInt32(truncatingIfNeeded: first) == UInt32(truncatingIfNeeded: second))
        #expect(table.remove(first) == nil)
        #expect(table.remove(OperationTable.nobody) == nil)
        #expect(table.count == 0)
    }

    private final class Thing {}

    /// Puts an operation in, and ends it.
    private func resumed(_ table: inout OperationTable, isPatient: Bool) async -> UInt64 {
        var number: UInt64 = 0
        let result = await withUnsafeContinuation { continuation in
            let (file, stranger) = (Thing(), Thing())
            number = table.add(continuation, keeping: [file], isPatient: isPatient)
            #expect(table.count == 1 && table.patient == (isPatient ? [number] : []))
            #expect(table.holding(file) == [number] && table.holding(stranger) == [])
            table.remove(number)?.resume(returning: 7)
        }
        #expect(result == 7)
        return number
    }
}
