public import CacheLoop
public import CacheModel
public import LinuxKit

/// An object on disk, open: its index is in memory, its blocks are read as they are wanted. It stays readable when its name
/// is removed meanwhile.
@CacheLoop
public final class StoredObject {
    public nonisolated let index: ObjectIndex
    public nonisolated let path: String
    private let file: any DeviceFile
    private let blockSize: Int

    private init(index: ObjectIndex, path: String, file: any DeviceFile, blockSize: Int) {
        self.index = index
        self.path = path
        self.file = file
        self.blockSize = blockSize
    }

    public nonisolated var header: ObjectHeader { index.header }

    static func open(
        _ path: String, on device: any Device, expecting description: SessionDescription
    ) async throws(CacheError) -> StoredObject {
        try await open(path, on: device, expecting: description) { (AlignedBuffer(byteCount: $0), 0) }.object
    }

    /// Opens an object and reads its kept part, which lies right behind the header: at once, where its length is guessed.
    static func openWithKept(
        _ path: String, on device: any Device, expecting description: SessionDescription, into place: ReadPlace
    ) async throws(CacheError) -> (object: StoredObject, kept: FileBytes) {
        let share = keptShare(description)
        let (object, bytes) = try await open(path, on: device, expecting: description, share: share) { place.room($0) }
        let kept = object.index.keptRange
        guard kept.upperBound <= bytes.range.count else { return (object, try await object.read(kept, into: place)) }
        let start = bytes.range.lowerBound
        return (object, FileBytes(buffer: bytes.buffer, range: start + kept.lowerBound..<start + kept.upperBound))
    }

    /// Bytes that `openWithKept` reads at once of a sealed chunk's object, in whole blocks; chunk 0's takes more if there is a sink.
    public nonisolated static func keptBytesGuess(_ description: SessionDescription) -> Int {
        let header = ObjectIndex.headerByteCount(for: description.geometry)
        let rows = Double(description.policy.lag * description.geometry.tokenBytes)
        return AlignedBuffer.roundedUp(header + Int(keptShare(description) * rows))
    }

    /// What part of a sealed chunk's rows is kept, summaries counted as two rows, and a little more.
    private nonisolated static func keptShare(_ description: SessionDescription) -> Double {
        let policy = description.policy
        let kept = (0..<description.geometry.layers).reduce(0) { $0 + policy.kept(inLayer: $1) + 2 }
        return 1.03 * Double(kept) / Double(description.geometry.layers * (policy.lag + 2))
    }

    /// - Parameters:
    ///   - share: the part of what follows the header that is read with it.
    ///   - makeRoom: memory of so many bytes or more, and where in it they begin.
    /// - Returns: the object, and the bytes that were read, from the beginning of the file on.
    private static func open(
        _ path: String, on device: any Device, expecting description: SessionDescription, share: Double = 0,
        _ makeRoom: (Int) -> (AlignedBuffer, Int)
    ) async throws(CacheError) -> (object: StoredObject, bytes: FileBytes) {
        let (file, bytes) = try await reporting("reading an object") { () throws(DeviceError) in
            let file = try await device.open(path)
            let header = ObjectIndex.headerByteCount(for: description.geometry)
            // Safe: a file has no more bytes than fit an Int, and a share of them is less.
            let wanted = header + Int(share * Double(max(0, file.size - header)))
            let count = AlignedBuffer.roundedUp(max(1, min(wanted, file.size)))
            let (buffer, offset) = makeRoom(count)
            let read = try await file.read(at: 0, count: count, into: buffer, at: offset)
            return (file, FileBytes(buffer: buffer, range: offset..<offset + read))
        }
        let index = try ObjectIndex(parsing: bytes.all, fileSize: file.size, path: path, expecting: description)
        return (StoredObject(index: index, path: path, file: file, blockSize: device.blockSize), bytes)
    }

    /// Throws `corrupt` if the header tells of another object than the name does.
    func check(_ name: ObjectName) throws(CacheError) {
        let told: ObjectName =
            switch header.kind {
            case .chunk: .chunk(header.chunk, sequence: header.sequence)
            case .window:
                .window(
                    sealedChunks: header.chunk, tokens: header.firstPosition + header.tokenCount, sequence: header.sequence)
            }
        guard told == name else {
            throw CacheError(.corrupt, "the identity of \(path)", seen: "the header of \(told.text)", expected: name.text)
        }
    }

    /// Bytes that are read for `range`: whole blocks.
    public nonisolated func bytesToRead(_ range: Range<Int>) -> Int { blocks(of: range).count }

    /// The most bytes that are read for both parts of a layer, in whole blocks.
    public nonisolated var byteBoundOfLayer: Int {
        // Each part may begin and end in the middle of a block.
        bytesToRead(0..<ObjectIndex.byteBoundOfLayer(for: header)) + 3 * blockSize
    }

    private nonisolated func blocks(of range: Range<Int>) -> Range<Int> {
        range.lowerBound / blockSize * blockSize..<(range.upperBound + blockSize - 1) / blockSize * blockSize
    }

    /// Reads bytes `range` of the file into new memory.
    /// - Parameter pool: where the memory comes from.
    public func read(_ range: Range<Int>, _ pool: BufferPool) async throws(CacheError) -> FileBytes {
        try await read(range, into: pool.take(byteCount: max(blockSize, bytesToRead(range))), at: 0)
    }

    /// Reads bytes `range` of the file.
    public func read(_ range: Range<Int>, into place: ReadPlace) async throws(CacheError) -> FileBytes {
        let (buffer, offset) = place.room(max(blockSize, bytesToRead(range)))
        return try await read(range, into: buffer, at: offset)
    }

    /// Reads bytes `range` of the file, and says where in the buffer they begin.
    /// - Parameter offset: where in `buffer` to put the `bytesToRead(range)` bytes, a multiple of the block size.
    public func read(_ range: Range<Int>, into buffer: AlignedBuffer, at offset: Int) async throws(CacheError) -> FileBytes {
        guard !range.isEmpty else { return FileBytes(buffer: buffer, range: offset..<offset) }
        let blocks = blocks(of: range)
        let read = try await reporting("reading an object") { () throws(DeviceError) in
            try await file.read(at: blocks.lowerBound, count: blocks.count, into: buffer, at: offset)
        }
        let end = blocks.lowerBound + read
        guard end >= range.upperBound else {
            throw CacheError(.corrupt, "the length of \(path)", seen: "\(end) bytes", expected: "\(range.upperBound) or more")
        }
        let first = offset + range.lowerBound - blocks.lowerBound
        return FileBytes(buffer: buffer, range: first..<first + range.count)
    }
}

/// Bytes of a file, in memory that direct I/O could write.
public struct FileBytes: Sendable {
    public let buffer: AlignedBuffer
    /// Where in the buffer they are.
    public let range: Range<Int>

    public var all: RawSpan {
        @_lifetime(borrow self)
        get { buffer.bytes(range) }
    }

    /// The bytes of `part` of the file, of which these are the bytes from `start` on.
    @_lifetime(borrow self)
    public func bytes(_ part: Range<Int>, from start: Int) -> RawSpan {
        let first = range.lowerBound + part.lowerBound - start
        return buffer.bytes(first..<first + part.count)
    }
}
