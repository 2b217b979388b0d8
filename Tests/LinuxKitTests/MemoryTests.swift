import Glibc
import LinuxKit
import Testing

@Suite("memory and words")
struct MemoryTests {
    @Test("an errno is named and explained, an unknown one is numbered")
    func errnoNames() {
        #expect(Kernel.describe(errno: ENOSPC) == "ENOSPC (No space left on device)")
        #expect(Kernel.describe(errno: 9_999) == "errno 9999")
        let error = KernelError(call: "open", detail: "/x", code: EMFILE)
        #expect(error.description.hasPrefix("open /x: EMFILE (Too many open files); try: raise"))
    }

    @Test(
        "a buffer is zero, aligned, and rounded up to blocks",
        arguments: [1, 4_095, 4_096, 4_097, 1 << 20, 2 << 20, (5 << 20) + 1])
    func buffer(byteCount: Int) {
        let buffer = AlignedBuffer(byteCount: byteCount)
        #expect(buffer.byteCount == (byteCount + 4_095) / 4_096 * 4_096)
        #expect(UInt(bitPattern: buffer.baseAddress) % (byteCount < 2 << 20 ? 4_096 : 2 << 20) == 0)
        buffer.withUnsafeBytes(0..<buffer.byteCount) { bytes in #expect(bytes.allSatisfy { $0 == 0 }) }
    }

    @Test("a pool hands out the memory that was let go of, by size, and holds no more than its limit")
    func pool() {
        let pool = BufferPool(byteLimit: 16_384)
        var held = (0..<3).map { _ in pool.take(byteCount: 8_000) }
        let addresses = held.map(\.baseAddress)
        #expect(pool.heldBytes == 0)
        while !held.isEmpty { held.removeFirst() }
        #expect(pool.heldBytes == 16_384)
        #expect(!addresses.contains(pool.take(byteCount: 4_096).baseAddress))
        let again = [pool.take(byteCount: 8_192), pool.take(byteCount: 8_192)]
        #expect(Set(again.map(\.baseAddress)) == Set(addresses.prefix(2)))
        // An optimizer lets go of them after their last use.
        withExtendedLifetime(again) { #expect(pool.heldBytes <= 4_096) }
    }

    @Test("a pool's buffers are as long as was asked, and at most a quarter longer", arguments: 1...300)
    func poolSizes(blocks: Int) {
        let bytes = BufferPool(byteLimit: 0).take(byteCount: blocks * 4_096 - 1).byteCount
        #expect(bytes >= blocks * 4_096 && bytes <= blocks * 4_096 * 5 / 4)
    }

    @Test("a pool that nobody wants anything of gives its memory back")
    func poolTrims() {
        let pool = BufferPool(byteLimit: 1 << 20)
        _ = pool.take(byteCount: 8_192)
        #expect(pool.heldBytes == 8_192)
        for _ in 0..<3 { pool.trim(after: 3) }
        #expect(pool.heldBytes == 8_192)
        pool.trim(after: 3)
        #expect(pool.heldBytes == 0)
    }

    @Test("a descriptor closes its file when it goes, and not when it is released")
    func descriptorCloses() throws {
        let number: Int32
        do {
            let descriptor = try SharedMemory.create(name: "closed", byteCount: 1).readOnlyDescriptor()
            number = descriptor.rawValue
            #expect(fcntl(number, F_GETFD) == FD_CLOEXEC)
            let inherited = try descriptor.duplicate(closeOnExec: false).release()
            #expect(fcntl(inherited, F_GETFD) == 0)
            _ = Descriptor(owning: inherited)
        }
        // Another test may have opened the number again; then it is another file.
        let name = try? String(decoding: readLink("/proc/self/fd/\(number)"), as: UTF8.self)
        #expect(name?.contains("memfd:closed") != true)
    }

    private func readLink(_ path: String) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
        guard count >= 0 else { throw KernelError(call: "readlink", detail: path, code: ENOENT) }
        return Array(bytes[..<count])
    }
}
