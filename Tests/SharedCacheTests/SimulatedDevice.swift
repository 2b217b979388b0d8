import CacheLoop
import ChunkStore
import LinuxKit

/// One process's way to a `SimulatedDisk`: every operation waits for its turn, and may then find the disk ill, or its own
/// process gone.
@CacheLoop
final class SimulatedDevice: Device {
    nonisolated let blockSize = AlignedBuffer.blockSize
    fileprivate let disk: SimulatedDisk
    private let world: World
    private let life: Life

    nonisolated init(disk: SimulatedDisk, world: World, life: Life) {
        self.disk = disk
        self.world = world
        self.life = life
    }

    private static let inputOutputError: Int32 = 5
    private static let noSpace: Int32 = 28

    /// Whether an operation takes room on the disk.
    fileprivate enum Need {
        case nothing
        case room(Int)
    }

    fileprivate func perform<Value>(
        _ operation: String, _ path: String, _ need: Need = .nothing, _ body: () throws(DeviceError) -> Value
    ) async throws(DeviceError) -> Value {
        guard !life.hasEnded else { throw gone(operation, path) }
        await world.turn(of: life, delay: world.numbers.perThousand(disk.faults.slow) ? world.numbers.number(in: 1...200) : 0)
        guard !life.hasEnded else {
            // It was under way when the process ended.
            if world.numbers.once(in: 2) { _ = try body() }
            throw gone(operation, path)
        }
        try refuse(operation, path, need)
        return try body()
    }

    private func gone(_ operation: String, _ path: String) -> DeviceError {
        DeviceError(operation: "\(operation) (the process is gone)", path: path, code: Self.inputOutputError)
    }

    private func refuse(_ operation: String, _ path: String, _ need: Need) throws(DeviceError) {
        if world.numbers.perThousand(disk.faults.errors) {
            throw DeviceError(operation: operation, path: path, code: Self.inputOutputError)
        }
        guard case .room(let bytes) = need else { return }
        let isFull = disk.faults.byteLimit.map { disk.usedBytes + bytes > $0 } ?? false
        if isFull || world.numbers.perThousand(disk.faults.outOfSpace) {
            throw DeviceError(operation: operation, path: path, code: Self.noSpace)
        }
    }

    /// Whether this sync is to be acknowledged and forgotten.
    fileprivate func forgets(_ share: KeyPath<Faults, Int>) -> Bool { world.numbers.perThousand(disk.faults[keyPath: share]) }

    /// Where to flip a bit in what was read; nil for bytes as they are.
    fileprivate func flippedBit(of count: Int) -> Int? {
        count > 0 && world.numbers.perThousand(disk.faults.flippedReads) ? world.numbers.number(in: 0...8 * count - 1) : nil
    }

    // MARK: Device

    func makeDirectory(_ path: String) async throws(DeviceError) {
        try await perform("make directory", path, .room(0)) { () throws(DeviceError) in try disk.makeDirectory(path) }
    }

    func removeDirectory(_ path: String) async throws(DeviceError) {
        try await perform("remove directory", path) { () throws(DeviceError) in try disk.removeDirectory(path) }
    }

    func syncDirectory(_ path: String) async throws(DeviceError) {
        try await perform("sync directory", path) { () throws(DeviceError) in
            if !forgets(\.forgottenDirectorySyncs) { try disk.syncDirectory(path) }
        }
    }

    func list(_ path: String) async throws(DeviceError) -> [DirectoryEntry] {
        try await perform("list", path) { () throws(DeviceError) in try disk.list(path) }
    }

    func link(_ path: String, as newPath: String) async throws(DeviceError) {
        try await perform("link", newPath, .room(0)) { () throws(DeviceError) in try disk.link(disk.node(path), as: newPath) }
    }

    func rename(_ path: String, to newPath: String) async throws(DeviceError) {
        try await perform("rename", newPath) { () throws(DeviceError) in try disk.rename(path, to: newPath) }
    }

    func unlink(_ path: String) async throws(DeviceError) {
        try await perform("unlink", path) { () throws(DeviceError) in try disk.unlink(path) }
    }

    func createUnnamed(in directory: String) async throws(DeviceError) -> any DeviceFile {
        try await perform("create in", directory, .room(0)) { () throws(DeviceError) in
            _ = try disk.list(directory)
            return SimulatedFile(disk.makeNode(isDirectory: false), path: directory, on: self)
        }
    }

    func open(_ path: String) async throws(DeviceError) -> any DeviceFile {
        try await perform("open", path) { () throws(DeviceError) in SimulatedFile(try disk.node(path), path: path, on: self) }
    }
}

/// An open file. It stays readable when its names are gone.
@CacheLoop
final class SimulatedFile: DeviceFile {
    private let node: SimulatedDisk.Node
    private let path: String
    private let device: SimulatedDevice

    init(_ node: SimulatedDisk.Node, path: String, on device: SimulatedDevice) {
        self.node = node
        self.path = path
        self.device = device
    }

    var size: Int { node.written.count }

    func read(at offset: Int, count: Int, into buffer: AlignedBuffer, at bufferOffset: Int) async throws(DeviceError) -> Int {
        let block = device.blockSize
        precondition(offset % block == 0 && count % block == 0 && bufferOffset % block == 0, "a read that is not in blocks")
        return try await device.perform("read", path) { () throws(DeviceError) in
            let read = max(0, min(count, node.written.count - offset))
            buffer.withUnsafeMutableBytes(bufferOffset..<bufferOffset + read) { target in
                target.copyBytes(from: node.written[min(offset, node.written.count)...].prefix(read))
                if let bit = device.flippedBit(of: read) { target[bit / 8] ^= 1 << UInt8(bit % 8) }
            }
            return read
        }
    }

    func write(_ buffer: AlignedBuffer, count: Int) async throws(DeviceError) {
        try await device.perform("write", path, .room(count)) { () throws(DeviceError) in
            node.written = buffer.withUnsafeBytes(0..<count) { Array($0) }
        }
    }

    func sync() async throws(DeviceError) {
        try await device.perform("sync", path) { () throws(DeviceError) in
            if !device.forgets(\.forgottenFileSyncs) { node.synced = node.written }
        }
    }

    func publish(as path: String) async throws(DeviceError) {
        try await device.perform("publish", path, .room(0)) { () throws(DeviceError) in try device.disk.link(node, as: path) }
    }
}
