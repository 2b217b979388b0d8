internal import CLagKVKernels
internal import CacheModel

/// How a block is stored.
enum Codec: UInt8 {
    /// As it is.
    case raw = 0
    /// Each number rotated left by one bit, its bytes spread over planes, and the top plane in a zstd frame.
    case planes = 1
    /// The same planes, the top one in tiers.
    case tiers = 2
}

/// One block's entry in the index.
struct BlockEntry: Sendable, Hashable {
    var storedBytes: UInt32
    var checksum: UInt32
    var codec: Codec

    static let byteCount = 12
    static let empty = BlockEntry(storedBytes: 0, checksum: 0, codec: .raw)
}

/// Where in memory a piece of a block's rows is. A block's rows follow one another; in memory they lie scattered.
struct Piece {
    var offset: Int
    var byteCount: Int

    /// Rows `tokens` of a head whose row 0 is at `start`.
    init(_ tokens: Range<Int>, of rowBytes: Int, from start: Int) {
        offset = start + tokens.lowerBound * rowBytes
        byteCount = tokens.count * rowBytes
    }
}

/// Coding of one block of rows. The only place of this module that hands pointers to kernels; every piece is checked
/// against the memory it lies in, and the pieces' sum against the block's length.
extension CodecContext {
    /// Codes the rows at `pieces` of `source` into the beginning of `target`, which has room for them as they are.
    func encode(_ pieces: [Piece], of source: RawSpan, element: Int, into target: inout MutableRawSpan) -> BlockEntry {
        let rawBytes = Self.length(of: pieces, in: source.byteCount)
        precondition(rawBytes <= target.byteCount, "a block does not fit")
        guard rawBytes > 0 else { return .empty }
        let (storedBytes, codec) = source.withUnsafeBytes { source in
            target.withUnsafeMutableBytes { target in
                let target = UnsafeMutableRawBufferPointer(rebasing: target[..<rawBytes])
                return encodePlanes(pieces, source, element, target) ?? encodeRaw(pieces, source, target)
            }
        }
        let sum = crc32c(target.bytes.extracting(0..<storedBytes))
        // Safe: no chunk has 2^32 bytes.
        return BlockEntry(storedBytes: UInt32(storedBytes), checksum: sum, codec: codec)
    }

    private func encodePlanes(
        _ pieces: [Piece], _ source: UnsafeRawBufferPointer, _ element: Int, _ target: UnsafeMutableRawBufferPointer
    ) -> (Int, Codec)? {
        let count = target.count / element
        let low = target.baseAddress!.assumingMemoryBound(to: UInt8.self)
        let top = topPlane(count: count)
        var done = 0
        for piece in pieces {
            let rows = (source.baseAddress! + piece.offset).assumingMemoryBound(to: UInt8.self)
            lagkv_planes_split(element, rows, piece.byteCount / element, low + done, count, top.baseAddress! + done)
            done += piece.byteCount / element
        }
        let lowBytes = count * (element - 1)
        let room = UnsafeMutableRawBufferPointer(rebasing: target[lowBytes..<target.count - 1])
        // A plan that was judged by a sample may deceive, once in a while and not by real caches: the block is raw then.
        if let plan = tiers(of: top) { return encodeTiers(top, plan, into: room).map { (lowBytes + $0, .tiers) } }
        return compress(top, into: room).map { (lowBytes + $0, .planes) }
    }

    private func encodeRaw(
        _ pieces: [Piece], _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer
    ) -> (Int, Codec) {
        var done = 0
        for piece in pieces {
            (target.baseAddress! + done).copyMemory(from: source.baseAddress! + piece.offset, byteCount: piece.byteCount)
            done += piece.byteCount
        }
        return (done, .raw)
    }

    /// Decodes a block whose checksum was right to `pieces` of `target`.
    /// - Parameter ahead: how many bytes lie after `stored` that are likely to be decoded next.
    /// - Returns: false if the block cannot be decoded; what is at `pieces` is undefined then.
    func decode(
        _ stored: RawSpan, _ codec: Codec, ahead: Int, element: Int, to pieces: [Piece], of target: inout MutableRawSpan
    ) -> Bool {
        let rawBytes = Self.length(of: pieces, in: target.byteCount)
        guard rawBytes > 0 else { return stored.isEmpty }
        return stored.withUnsafeBytes { stored in
            target.withUnsafeMutableBytes { target in
                switch codec {
                case .raw: decodeRaw(stored, pieces, target, rawBytes)
                case .planes: decodePlanes(stored, decompress, element, pieces, target, rawBytes)
                case .tiers:
                    decodePlanes(stored, { decodeTiers($0, into: $1, ahead: ahead) }, element, pieces, target, rawBytes)
                }
            }
        }
    }

    private func decodeRaw(
        _ stored: UnsafeRawBufferPointer, _ pieces: [Piece], _ target: UnsafeMutableRawBufferPointer, _ rawBytes: Int
    ) -> Bool {
        guard stored.count == rawBytes else { return false }
        var done = 0
        for piece in pieces {
            (target.baseAddress! + piece.offset).copyMemory(from: stored.baseAddress! + done, byteCount: piece.byteCount)
            done += piece.byteCount
        }
        return true
    }

    private func decodePlanes(
        _ stored: UnsafeRawBufferPointer, _ decodeTop: (UnsafeRawBufferPointer, UnsafeMutableBufferPointer<UInt8>) -> Bool,
        _ element: Int, _ pieces: [Piece], _ target: UnsafeMutableRawBufferPointer, _ rawBytes: Int
    ) -> Bool {
        let count = rawBytes / element
        let lowBytes = count * (element - 1)
        guard stored.count > lowBytes else { return false }
        let top = topPlane(count: count)
        guard decodeTop(UnsafeRawBufferPointer(rebasing: stored[lowBytes...]), top) else { return false }
        let low = stored.baseAddress!.assumingMemoryBound(to: UInt8.self)
        var done = 0
        for piece in pieces {
            let rows = (target.baseAddress! + piece.offset).assumingMemoryBound(to: UInt8.self)
            lagkv_planes_merge(element, low + done, count, top.baseAddress! + done, piece.byteCount / element, rows)
            done += piece.byteCount / element
        }
        lagkv_planes_merged()
        return true
    }

    /// The bytes of all pieces, each of which must lie within `byteCount` bytes.
    private static func length(of pieces: [Piece], in byteCount: Int) -> Int {
        var sum = 0
        for piece in pieces {
            precondition(
                piece.offset >= 0 && piece.byteCount >= 0 && piece.offset <= byteCount - piece.byteCount,
                "rows at \(piece.offset) lie outside \(byteCount) bytes")
            sum += piece.byteCount
        }
        return sum
    }
}
