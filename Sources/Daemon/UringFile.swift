internal import CacheLoop
internal import ChunkStore
internal import Glibc
internal import LinuxKit

/// A file of a `UringDevice`. Long transfers take several requests, and go on where the kernel left off.
@CacheLoop
final class UringFile: DeviceFile {
    private(set) var size: Int
    private let file: RingFile
    private let path: String
    private let isNew: Bool
    private var hiddenName: HiddenName?
    private let device: UringDevice

    init(_ file: RingFile, path: String, size: Int, isNew: Bool, hiddenName: HiddenName? = nil, on device: UringDevice) {
        self.file = file
        self.path = path
        self.size = size
        self.isNew = isNew
        self.hiddenName = hiddenName
        self.device = device
    }

    func read(
        at offset: Int, count: Int, into buffer: AlignedBuffer, at bufferOffset: Int
    ) async throws(DeviceError) -> Int {
        let block = device.blockSize
        precondition(
            offset % block == 0 && count % block == 0 && bufferOffset % block == 0,
            "a read of \(count) bytes at \(offset) into a buffer at \(bufferOffset) is not in blocks of \(block)")
        // Where the file ends; beyond it a read would not be in blocks.
        let wanted = max(0, min(count, size - offset))
        return try await device.reporting("read", path) { () async throws(KernelError) in
            var done = 0
            while done < wanted {
                let length = min(count - done, device.transferLimit)
                let begin = bufferOffset + done
                let read = try await device.reactor.read(file, at: offset + done, into: buffer, begin..<begin + length)
                done += read
                if read == 0 || done >= wanted { break }
                // Cut short in the middle of a block: that block again.
                done -= done % block
            }
            return min(done, wanted)
        }
    }

    /// Fills `buffer` with zeros from `count` to the end of the block.
    func write(_ buffer: AlignedBuffer, count: Int) async throws(DeviceError) {
        precondition(isNew, "\(path) was opened for reading")
        let end = device.traits.usesDirectIO ? AlignedBuffer.roundedUp(count) : count
        buffer.withUnsafeMutableBytes(count..<end) { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
        try await device.reporting("write", path) { () async throws(KernelError) in
            var done = 0
            while done < end {
                let length = min(end - done, device.transferLimit)
                let written = try await device.reactor.write(file, at: done, from: buffer, done..<done + length)
                size = max(size, done + written)
                // Cut short: whole blocks count, so that the next write begins with one.
                let progress = done + written < end ? written / device.blockSize * device.blockSize : written
                // Less than a block, and no error: there is no way to go on.
                guard progress > 0 else { throw KernelError(call: "write", detail: path, code: EIO) }
                done += progress
            }
            if size != count { try await cut(to: count) }
            size = count
        }
    }

    private func cut(to count: Int) async throws(KernelError) {
        let file = file
        let answer = await device.compute.run(.seal) {
            Result { () throws(KernelError) in try file.descriptor.truncate(to: count) }
        }
        try answer.get()
    }

    func sync() async throws(DeviceError) {
        try await device.reporting("sync", path) { () async throws(KernelError) in try await device.reactor.sync(file) }
    }

    func publish(as newPath: String) async throws(DeviceError) {
        if let hiddenName {
            try await device.link(hiddenName.path, as: newPath)
        } else {
            try await device.reporting("publish", newPath) { () async throws(KernelError) in
                try await device.link(file, as: newPath)
            }
        }
        // The hidden name goes, the file stays.
        hiddenName = nil
    }
}
