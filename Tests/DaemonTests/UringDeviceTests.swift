import CacheLoop
import ChunkStore
import Glibc
import LinuxKit
import Testing

@testable import Daemon

/// A place to test in, and what to believe of its filesystem.
struct DevicePlace: Sendable, CustomTestStringConvertible {
    var directory: String
    /// Nil: as probed.
    var traits: FilesystemTraits?
    /// Small, so that most transfers take several requests.
    var transferLimit = 64 << 10
    var testDescription: String {
        "\(directory), \(traits.map { "direct \($0.usesDirectIO), unnamed \($0.hasUnnamedFiles)" } ?? "as probed")"
    }

    static let all = [
        DevicePlace(directory: "/var/tmp", transferLimit: RingOperation.transferLimit),
        DevicePlace(directory: "/var/tmp"),
        DevicePlace(directory: "/dev/shm"),
        DevicePlace(directory: "/var/tmp", traits: FilesystemTraits(hasUnnamedFiles: true, usesDirectIO: false)),
        DevicePlace(directory: "/var/tmp", traits: FilesystemTraits(hasUnnamedFiles: false, usesDirectIO: false)),
    ]
}

@Suite("the disk through the ring", .timeLimit(.minutes(1)))
struct UringDeviceTests {
    private static func withDevice(
        _ place: DevicePlace, _ body: @escaping @CacheLoop @Sendable (UringDevice, String) async throws -> Void
    ) async throws {
        let temporary = TemporaryDirectory(below: place.directory)
        let path = temporary.path
        let pool = WorkerPool(width: 2)
        try await withLoop { reactor in
            let device = try makeDevice(path, place, reactor, pool)
            try await body(device, path)
        }
        pool.shutDown()
        let left = try openFiles { $0.hasPrefix(path) }
        #expect(left == [])
    }

    @CacheLoop
    private static func makeDevice(
        _ path: String, _ place: DevicePlace, _ reactor: Reactor, _ pool: WorkerPool
    ) throws -> UringDevice {
        let root = try Descriptor.directory(path)
        let traits = try place.traits ?? FilesystemTraits.probe(root)
        let entropy = Entropy(SystemRandomNumberGenerator())
        return UringDevice(
            root: RingFile(root), traits: traits, reactor: reactor, compute: pool, entropy: entropy,
            transferLimit: place.transferLimit)
    }

    /// Bytes that differ from place to place.
    private static func fill(_ buffer: AlignedBuffer, seed: UInt64) {
        buffer.withUnsafeMutableBytes(0..<buffer.byteCount) { bytes in
            for (index, word) in bytes.bindMemory(to: UInt64.self).indices.enumerated() {
                bytes.storeBytes(of: (seed &+ UInt64(index)) &* 0x9E37_79B9_7F4A_7C15, toByteOffset: word * 8, as: UInt64.self)
            }
        }
    }

    @Test("what is written is read back, whatever its length", arguments: DevicePlace.all)
    func roundTrip(place: DevicePlace) async throws {
        try await Self.withDevice(place) { device, _ in
            try await device.makeDirectory("session")
            for count in [0, 1, 4_095, 4_096, 4_097, 100_000, (3 << 20) + 5] {
                let written = AlignedBuffer(byteCount: max(count, 1))
                Self.fill(written, seed: UInt64(count))
                let file = try await device.createUnnamed(in: "session")
                try await file.write(written, count: count)
                try await file.sync()
                try await file.publish(as: "session/\(count)")
                try await device.syncDirectory("session")
                #expect(file.size == count)

                let opened = try await device.open("session/\(count)")
                #expect(opened.size == count)
                let read = AlignedBuffer(byteCount: written.byteCount + 8_192)
                let got = try await opened.read(at: 0, count: read.byteCount - 4_096, into: read, at: 4_096)
                #expect(got == count)
                #expect(Self.equal(read, 4_096, written, 0, count))
                if count > 8_192 {
                    let rest = try await opened.read(at: 8_192, count: 4_096, into: read, at: 0)
                    #expect(rest == 4_096 && Self.equal(read, 0, written, 8_192, 4_096))
                    let end = AlignedBuffer.roundedUp(count)
                    #expect(try await opened.read(at: end, count: 4_096, into: read, at: 0) == 0)
                }
            }
            let entries = try await device.list("session")
            #expect(entries.allSatisfy { "\($0.size)" == $0.name && $0.links == 1 && !$0.isDirectory })
            #expect(entries.count == 7)
        }
    }

    private static func equal(_ a: AlignedBuffer, _ atA: Int, _ b: AlignedBuffer, _ atB: Int, _ count: Int) -> Bool {
        a.withUnsafeBytes(atA..<atA + count) { a in b.withUnsafeBytes(atB..<atB + count) { a.elementsEqual($0) } }
    }

    @Test("a file without a name is not listed, and vanishes with its last holder", arguments: DevicePlace.all)
    func unnamed(place: DevicePlace) async throws {
        try await Self.withDevice(place) { device, path in
            do {
                let file = try await device.createUnnamed(in: "")
                try await file.write(AlignedBuffer(byteCount: 4_096), count: 4_096)
                #expect(try await device.list("") == [])
            }
            #expect(try Descriptor.directory(path).entries().isEmpty)
        }
    }

    @Test("hidden files that a crash has left are removed by the next listing, and this device's own are not")
    func leftovers() async throws {
        let place = DevicePlace(
            directory: "/var/tmp", traits: FilesystemTraits(hasUnnamedFiles: false, usesDirectIO: false))
        try await Self.withDevice(place) { device, path in
            close(open("\(path)/.unnamed-1234-1", O_CREAT | O_RDWR, 0o600))
            let file = try await device.createUnnamed(in: ".")
            #expect(try await device.list("") == [])
            let names = try Descriptor.directory(path).entries().map(\.name)
            #expect(names.count == 1 && names[0] != ".unnamed-1234-1")
            try await file.publish(as: "named")
            #expect(try await device.list("").map(\.name) == ["named"])
        }
    }

    @Test("a taken name is not replaced by publishing, and is by renaming", arguments: DevicePlace.all)
    func names(place: DevicePlace) async throws {
        try await Self.withDevice(place) { device, _ in
            try await device.createUnnamed(in: "").publish(as: "one")
            let second = try await device.createUnnamed(in: "")
            try await second.write(AlignedBuffer(byteCount: 1), count: 7)
            let taken = await #expect(throws: DeviceError.self) { try await second.publish(as: "one") }
            #expect(taken?.code == EEXIST)
            try await second.publish(as: "two")
            try await device.link("two", as: "three")
            let again = await #expect(throws: DeviceError.self) { try await device.link("two", as: "one") }
            #expect(again?.code == EEXIST)
            #expect(try await device.list("").filter { $0.links == 2 && $0.size == 7 }.count == 2)
            let inodes = Set(try await device.list("").map(\.inode))
            #expect(inodes.count == 2)
            try await device.rename("two", to: "one")
            try await device.unlink("three")
            #expect(try await device.list("").map(\.name) == ["one"])
            #expect(try await device.open("one").size == 7)
        }
    }

    @Test("directories are made, listed and removed, and only when empty", arguments: DevicePlace.all)
    func directories(place: DevicePlace) async throws {
        try await Self.withDevice(place) { device, _ in
            try await device.makeDirectory("a")
            try await device.makeDirectory("a/b")
            try await device.createUnnamed(in: "a/b").publish(as: "a/b/file")
            #expect(try await device.list("a").map(\.isDirectory) == [true])
            let full = await #expect(throws: DeviceError.self) { try await device.removeDirectory("a/b") }
            #expect(full?.code == ENOTEMPTY)
            try await device.unlink("a/b/file")
            try await device.removeDirectory("a/b")
            try await device.syncDirectory("a")
            #expect(try await device.list("a") == [])
            let twice = await #expect(throws: DeviceError.self) { try await device.makeDirectory("a") }
            #expect(twice?.description == "create directory a: EEXIST (File exists)")
        }
    }

    @Test("no path leads out of the directory", arguments: ["/etc", "..", "a/../..", "a//b", "./a", "a/", "x\0y"])
    func escapes(path: String) async throws {
        try await Self.withDevice(DevicePlace(directory: "/var/tmp")) { device, _ in
            for attempt: @CacheLoop () async throws -> Void in [
                { _ = try await device.open(path) }, { _ = try await device.list(path) },
                { try await device.makeDirectory(path) }, { try await device.unlink(path) },
                { try await device.rename("a", to: path) }, { try await device.link(path, as: "a") },
                { try await device.createUnnamed(in: "").publish(as: path) },
            ] {
                let error = await #expect(throws: DeviceError.self) { try await attempt() }
                #expect(error?.code == EINVAL)
            }
        }
    }

    @Test("a symbolic link is not followed")
    func symbolicLinks() async throws {
        try await Self.withDevice(DevicePlace(directory: "/var/tmp")) { device, path in
            #expect(symlink("/etc/passwd", "\(path)/link") == 0)
            let error = await #expect(throws: DeviceError.self) { _ = try await device.open("link") }
            #expect(error?.code == ELOOP)
        }
    }

    @Test("hundreds of files are written at the same time")
    func many() async throws {
        try await Self.withDevice(DevicePlace(directory: "/var/tmp")) { device, _ in
            let tasks = (0..<300).map { index in
                CacheLoop.start {
                    let file = try await device.createUnnamed(in: "")
                    let buffer = AlignedBuffer(byteCount: 8_192)
                    Self.fill(buffer, seed: UInt64(index))
                    try await file.write(buffer, count: 5_000 + index)
                    try await file.publish(as: "\(index)")
                }
            }
            for task in tasks { try await task.value }
            #expect(try await device.list("").allSatisfy { $0.size == 5_000 + Int($0.name)! })
            #expect(try await device.list("").count == 300)
        }
    }
}
