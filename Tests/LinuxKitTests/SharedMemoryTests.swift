import Glibc
import LinuxKit
import Testing

@Suite("shared memory")
struct SharedMemoryTests {
    @Test("what the daemon writes, a client that maps the descriptor reads, and the other way round")
    func twoMappings() throws {
        let memory = try SharedMemory.create(name: "slabs", byteCount: 1 << 20)
        let client = try MappedFile(try memory.writableDescriptor(), writable: true)
        #expect(client.byteCount == 1 << 20)
        var written = memory.mutableBytes(4_096..<4_100)
        written.storeBytes(of: 0x0102_0304, as: UInt32.self)
        #expect(client.bytes(4_096..<4_100).unsafeLoad(as: UInt32.self) == 0x0102_0304)
        client.storeRelease(77, at: 8)
        #expect(memory.loadAcquire(at: 8) == 77)
    }

    @Test("a sealed control file can be mapped for reading through any descriptor, and for writing through none")
    func controlIsReadOnly() throws {
        let memory = try SharedMemory.create(name: "control", byteCount: 8_192, sealedAgainstNewWriters: true)
        memory.storeRelease(5, at: 0)
        #expect(try MappedFile(try memory.readOnlyDescriptor(), writable: false).loadAcquire(at: 0) == 5)
        for descriptor in [try memory.readOnlyDescriptor().release(), try memory.writableDescriptor().release()] {
            let owned = Descriptor(owning: descriptor)
            #expect(throws: KernelError.self) { try MappedFile(owned, writable: true) }
            #expect(write(owned.rawValue, "x", 1) == -1)
        }
        memory.storeRelease(6, at: 0)
        #expect(memory.loadAcquire(at: 0) == 6)
    }

    @Test("a reader's descriptor of a writable file maps for reading only")
    func readersCannotWrite() throws {
        let memory = try SharedMemory.create(name: "slabs", byteCount: 8_192)
        let reader = try memory.readOnlyDescriptor()
        _ = try MappedFile(reader, writable: false)
        let refusal = #expect(throws: KernelError.self) { try MappedFile(reader, writable: true) }
        #expect(refusal?.code == EACCES)
    }

    @Test("nobody can shrink it, grow it, or add a seal")
    func sealed() throws {
        let memory = try SharedMemory.create(name: "slabs", byteCount: 8_192)
        let descriptor = try memory.writableDescriptor()
        #expect(ftruncate(descriptor.rawValue, 4_096) == -1)
        #expect(ftruncate(descriptor.rawValue, 16_384) == -1)
        // F_ADD_SEALS is 1033.
        #expect(fcntl(descriptor.rawValue, 1_033, 0x0008) == -1)
        var status = stat()
        #expect(fstat(descriptor.rawValue, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test("discarding gives back the whole pages of the range, leaves zeros there, and touches nothing beside it")
    func discard() throws {
        let page = Kernel.pageSize
        let memory = try SharedMemory.create(name: "slabs", byteCount: 64 * page)
        #expect(try memory.allocatedBytes == 0)
        memory.withUnsafeMutableBytes(0..<64 * page) { _ = $0.initializeMemory(as: UInt8.self, repeating: 0xA5) }
        #expect(try memory.allocatedBytes == 64 * page)
        try memory.discard(page + 1..<9 * page + 100)
        // Pages 2 to 8 lie inside; 1 and 9 only in part.
        #expect(try memory.allocatedBytes == 57 * page)
        try memory.discard(5..<6)
        #expect(try memory.allocatedBytes == 57 * page)
        memory.withUnsafeBytes(0..<64 * page) { bytes in
            for (index, byte) in bytes.enumerated() where index % 512 == 0 {
                #expect(byte == (2 * page..<9 * page ~= index ? 0 : 0xA5))
            }
        }
        // The pages read above are there again.
        #expect(try memory.allocatedBytes == 64 * page)
    }

    @Test("a wipe leaves zeros where there was memory, takes none where there was none, and touches nothing beside it")
    func wipe() throws {
        let page = Kernel.pageSize
        let memory = try SharedMemory.create(name: "slabs", byteCount: 64 * page)
        for first in [3, 10, 40] { memory.withUnsafeMutableBytes(first * page..<(first + 4) * page) { _ = $0.initializeMemory(as: UInt8.self, repeating: 0xA5) } }
        memory.wipe(4 * page + 7..<42 * page)
        #expect(try memory.allocatedBytes == 12 * page)
        for (byte, value) in [(3 * page, 0xA5), (4 * page + 6, 0xA5), (4 * page + 7, 0), (6 * page, 0), (11 * page, 0), (41 * page, 0), (42 * page, 0xA5)] {
            #expect(memory.load(at: byte, as: UInt8.self) == UInt8(value), "byte \(byte)")
        }
    }

    @Test("a file is exclusive until a descriptor of it is handed out, and again when nobody has one open or mapped")
    func exclusive() throws {
        let memory = try SharedMemory.create(name: "slabs", byteCount: 1 << 20)
        #expect(memory.isExclusive)
        for writable in [true, false] {
            var descriptor: Descriptor? = try writable ? memory.writableDescriptor() : memory.readOnlyDescriptor()
            #expect(!memory.isExclusive)
            var mapping: MappedFile? = try MappedFile(descriptor!, writable: writable)
            descriptor = nil
            #expect(!memory.isExclusive, "a mapping keeps the file open")
            #expect(mapping != nil)
            mapping = nil
            #expect(memory.isExclusive)
        }
    }

    @Test("a copy past the caches copies the same bytes from anywhere to anywhere, and no others")
    func copyPastCaches() throws {
        let memory = try SharedMemory.create(name: "inlet", byteCount: 1 << 16)
        let file = try MappedFile(try memory.writableDescriptor(), writable: true)
        let source = (0..<4_096).map { UInt8(truncatingIfNeeded: $0 &* 197 &+ 11) }
        for count in [0, 1, 15, 63, 64, 79, 80, 128, 1_000, 3_001] {
            for (from, to) in [(0, 0), (1, 0), (0, 1), (7, 9), (15, 17), (64, 31)] {
                memory.withUnsafeMutableBytes(0..<8_192) { _ = $0.initializeMemory(as: UInt8.self, repeating: 0xEE) }
                file.copyPastCaches(source.span.bytes.extracting(from..<from + count), to: to)
                let expected = [UInt8](repeating: 0xEE, count: to) + source[from..<from + count]
                let seen = memory.withUnsafeBytes(0..<8_192) { Array($0) }
                #expect(seen == expected + [UInt8](repeating: 0xEE, count: 8_192 - expected.count), "\(count) bytes, \(from) to \(to)")
            }
        }
    }

    @Test("terabytes cost nothing until they are touched")
    func sparse() throws {
        let memory = try SharedMemory.create(name: "large", byteCount: 4 << 40)
        memory.storeRelaxed(1, at: 3 << 40)
        #expect(try memory.allocatedBytes == Kernel.pageSize)
    }

    @Test("a file that its owner could still shrink is refused, unless the caller vouches for it")
    func unsealedIsRefused() throws {
        let path = "/tmp/lagkvd-mapped-\(getpid())"
        let descriptor = Descriptor(owning: open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
        unlink(path)
        #expect(ftruncate(descriptor.rawValue, 4_096) == 0)
        #expect(throws: KernelError.self) { try MappedFile(descriptor, writable: false) }
        #expect(try MappedFile(descriptor, writable: true, requireSealed: false).byteCount == 4_096)
    }
}
