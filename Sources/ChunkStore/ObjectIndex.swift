public import CacheModel
internal import LinuxKit

/// An object's header and index: which block is where in the file, and what it must sum to. See FORMAT.md.
///
/// Invariant: the blocks, in the order of the index, lie back to back from the beginning of their part; the parts begin
/// at multiples of 4,096; every stored length is one that its block can have.
public struct ObjectIndex: Sendable {
    public let header: ObjectHeader
    /// Bytes of the whole file, a multiple of 4,096.
    public let fileByteCount: Int
    let entries: [BlockEntry]
    /// Where in the file each block begins.
    private let offsets: [UInt32]
    let path: String

    /// Bytes from the beginning of the file that hold header and index: the same for all objects of a session, and a
    /// multiple of 4,096.
    public static func headerByteCount(for geometry: Geometry) -> Int {
        AlignedBuffer.roundedUp(exactHeaderByteCount(geometry))
    }

    static func exactHeaderByteCount(_ geometry: Geometry) -> Int {
        ObjectHeader.byteCount + BlockEntry.byteCount * Block.count(geometry)
    }

    init(header: ObjectHeader, entries: [BlockEntry], path: String) {
        let evictedStart = Block.evicted(layer: 0, head: 0, .keys, header.geometry)
        var offsets: [UInt32] = []
        offsets.reserveCapacity(entries.count)
        var end = Self.headerByteCount(for: header.geometry)
        for (block, entry) in entries.enumerated() {
            if block == evictedStart { end = AlignedBuffer.roundedUp(end) }
            // Safe: blocks are no longer than they are raw, and all of an object's raw blocks are below 2^32 bytes: keys
            // and values below 2^31, summaries no more than two tokens' keys and values of at least two.
            offsets.append(UInt32(end))
            end += Int(entry.storedBytes)
        }
        self.header = header
        self.entries = entries
        self.offsets = offsets
        self.path = path
        fileByteCount = AlignedBuffer.roundedUp(end)
    }

    // MARK: Ranges of the file

    /// The kept part: all that resuming reads. It begins where the header ends.
    public var keptRange: Range<Int> { range(of: 0..<Block.evicted(layer: 0, head: 0, .keys, header.geometry)) }

    /// The kept part of one layer: map, summaries, keys and values. Layers follow one another.
    public func keptRange(layer: Int) -> Range<Int> { range(of: Block.kept(layer: layer)) }

    /// The kept part of several layers; the first one's begins with the token ids.
    public func keptRange(layers: Range<Int>) -> Range<Int> {
        let first = layers.lowerBound == 0 ? keptRange.lowerBound : keptRange(layer: layers.lowerBound).lowerBound
        return first..<keptRange(layer: layers.upperBound - 1).upperBound
    }

    /// The evicted part; empty where nothing is evicted.
    public var evictedRange: Range<Int> {
        range(of: Block.evicted(layer: 0, head: 0, .keys, header.geometry)..<entries.count)
    }

    public func evictedRange(layer: Int) -> Range<Int> {
        evictedRange(layer: layer, head: 0).lowerBound..<evictedRange(layer: layer, head: header.geometry.heads - 1).upperBound
    }

    public func evictedRange(layer: Int, head: Int) -> Range<Int> {
        let first = Block.evicted(layer: layer, head: head, .keys, header.geometry)
        return range(of: first..<first + 2)
    }

    /// The token ids, at the beginning of the kept part.
    public var idsRange: Range<Int> { range(of: Block.ids) }

    public func keptCount(layer: Int) -> Int { header.keptCount(layer: layer) }
    public func evictedCount(layer: Int) -> Int { header.evictedCount(layer: layer) }

    /// The most bytes that both parts of one layer of `header`'s object can take.
    static func byteBoundOfLayer(for header: ObjectHeader) -> Int {
        let geometry = header.geometry
        let mapAndSummaries = geometry.heads * (KeptMap.byteCount(tokens: header.tokenCount) + 2 * geometry.keyBytes)
        return mapAndSummaries + header.tokenCount * geometry.layerTokenBytes
    }

    func range(of block: Int) -> Range<Int> {
        let start = Int(offsets[block])
        return start..<start + Int(entries[block].storedBytes)
    }

    func range(of blocks: Range<Int>) -> Range<Int> {
        range(of: blocks.lowerBound).lowerBound..<range(of: blocks.upperBound - 1).upperBound
    }
}

/// How the blocks of an object are numbered: as they lie in the file and in the index.
enum Block {
    /// What a layer's kept part consists of.
    enum Kept: Int {
        case map, summaries, keys, values
    }

    enum Evicted: Int {
        case keys, values
    }

    static let ids = 0

    static func count(_ geometry: Geometry) -> Int { 1 + 4 * geometry.layers + 2 * geometry.layers * geometry.heads }

    static func kept(layer: Int, _ part: Kept) -> Int { 1 + 4 * layer + part.rawValue }

    static func kept(layer: Int) -> Range<Int> { kept(layer: layer, .map)..<kept(layer: layer, .values) + 1 }

    static func evicted(layer: Int, head: Int, _ part: Evicted, _ geometry: Geometry) -> Int {
        precondition(layer >= 0 && layer < geometry.layers && head >= 0 && head < geometry.heads, "layer \(layer), head \(head)")
        return 1 + 4 * geometry.layers + 2 * (layer * geometry.heads + head) + part.rawValue
    }
}
