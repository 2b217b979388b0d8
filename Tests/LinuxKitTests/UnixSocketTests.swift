import Foundation
import Glibc
import LinuxKit
import Testing

@Suite("Unix sockets")
struct UnixSocketTests {
    private let path = "/tmp/lagkvd-socket-\(getpid())-\(UInt32.random(in: 0..<UInt32.max))"

    /// Two connected ends.
    private func withPair(_ body: (borrowing UnixSocket, borrowing UnixSocket) throws -> Void) throws {
        let listener = try UnixSocket.listen(at: path)
        defer { unlink(path) }
        let near = try UnixSocket.connect(to: path)
        let far = UnixSocket(owning: Descriptor(owning: accept(listener.rawValue, nil, nil)))
        try body(near, far)
    }

    /// The next descriptor's number, for the test to own; macros cannot hold what is not copyable.
    private func takeNumber(_ descriptors: inout PassedDescriptors) -> Int32 {
        guard let descriptor = descriptors.takeFirst() else { fatalError("no descriptor came") }
        return descriptor.release()
    }

    @Test("bytes and descriptors arrive together, close-on-exec, and the peer is known")
    func descriptorsTravel() throws {
        try withPair { near, far in
            let memory = try SharedMemory.create(name: "sent", byteCount: 4_096)
            memory.storeRelease(99, at: 0)
            let writable = try memory.writableDescriptor()
            let readOnly = try memory.readOnlyDescriptor()
            let message: [UInt8] = [1, 2, 3, 4]
            try far.send(message.span.bytes, descriptors: [writable.rawValue, readOnly.rawValue])
            var descriptors = PassedDescriptors()
            #expect(try near.receive(byteCount: 4, descriptors: &descriptors) == message)
            #expect(descriptors.count == 2)
            let first = takeNumber(&descriptors)
            #expect(fcntl(first, F_GETFD) == FD_CLOEXEC)
            #expect(try MappedFile(Descriptor(owning: first), writable: true).loadAcquire(at: 0) == 99)
            let second = takeNumber(&descriptors)
            #expect(try MappedFile(Descriptor(owning: second), writable: false).loadAcquire(at: 0) == 99)
            #expect(descriptors.count == 0)
            let peer = try Peer(ofSocket: far.rawValue)
            #expect(peer == Peer(process: getpid(), user: getuid(), group: getgid()))
        }
    }

    @Test("a message larger than the socket's buffer arrives whole")
    func largeMessage() throws {
        try withPair { near, far in
            let count = 8 << 20
            let number = near.rawValue
            let sender = Thread {
                let borrowed = UnixSocket(owning: Descriptor(owning: dup(number)))
                try? borrowed.send([UInt8](repeating: 7, count: count).span.bytes)
            }
            sender.start()
            var descriptors = PassedDescriptors()
            let received = try far.receive(byteCount: count, descriptors: &descriptors)
            #expect(received.allSatisfy { $0 == 7 })
            #expect(descriptors.count == 0)
        }
    }

    @Test("a closed connection is an error that says so, for the one who reads and the one who writes")
    func closed() throws {
        try withPair { near, far in
            _ = shutdown(far.rawValue, Int32(SHUT_RDWR))
            var descriptors = PassedDescriptors()
            let reading = #expect(throws: KernelError.self) { try near.receive(byteCount: 1, descriptors: &descriptors) }
            #expect(reading?.code == ECONNRESET)
            let writing = #expect(throws: KernelError.self) { try near.send([1].span.bytes) }
            #expect(writing?.code == EPIPE)
        }
    }

    @Test("a socket that nobody answers at is taken over; one that answers, and a plain file, are not")
    func staleSocket() throws {
        defer { unlink(path) }
        do { _ = try UnixSocket.listen(at: path) }
        let second = try UnixSocket.listen(at: path, mode: 0o660)
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o660)
        let answered = #expect(throws: KernelError.self) { _ = try UnixSocket.listen(at: path) }
        #expect(answered?.code == EADDRINUSE)
        _ = try UnixSocket.connect(to: path)
        _ = second.takeDescriptor()
        unlink(path)
        _ = Descriptor(owning: open(path, O_CREAT | O_RDWR, 0o600))
        let file = #expect(throws: KernelError.self) { _ = try UnixSocket.listen(at: path) }
        #expect(file?.code == EEXIST)
    }

    @Test("only a listening Unix socket is adopted, and it waits from then on")
    func adoption() throws {
        defer { unlink(path) }
        let listener = try UnixSocket.listen(at: path).takeDescriptor()
        #expect(fcntl(listener.rawValue, F_SETFL, O_NONBLOCK) == 0)
        let adopted = try UnixSocket(adoptingListener: listener)
        #expect(fcntl(adopted.rawValue, F_GETFL) & O_NONBLOCK == 0)
        let client = try UnixSocket.connect(to: path).takeDescriptor().release()
        #expect(throws: KernelError.self) {
            _ = try UnixSocket(adoptingListener: Descriptor(owning: client))
        }
    }

    @Test("a path that does not fit into an address is refused")
    func longPath() {
        let error = #expect(throws: KernelError.self) {
            _ = try UnixSocket.connect(to: "/tmp/" + String(repeating: "x", count: 110))
        }
        #expect(error?.code == ENAMETOOLONG)
    }
}
