internal import CacheModel

/// Which tokens of an object stay in memory: for each layer and head, ascending offsets from the object's first position.
/// Heads of one layer keep the same number.
public struct KeptOffsets: Sendable, Hashable {
    public let heads: Int
    /// Where each layer's offsets begin, and where the last one's end.
    private let starts: [Int]
    private var storage: [UInt32]

    /// All offsets are 0 until they are set.
    /// - Parameter counts: for each layer, tokens that one head keeps.
    public init(heads: Int, counts: [Int]) {
        self.heads = heads
        starts = counts.reduce(into: [0]) { $0.append($0.last! + $1 * heads) }
        storage = [UInt32](repeating: 0, count: starts.last!)
    }

    /// Room for what `header`'s object keeps. Chunk 0 counts the sink.
    public init(for header: ObjectHeader) {
        self.init(heads: header.geometry.heads, counts: (0..<header.geometry.layers).map(header.keptCount(layer:)))
    }

    /// What `header`'s object keeps, said for some layers at a time.
    /// - Parameter pieces: of consecutive layers, each [layer][head][kept] flat.
    public init(for header: ObjectHeader, _ pieces: [[UInt32]]) {
        self.init(for: header)
        let count = storage.count
        storage.removeAll(keepingCapacity: true)
        for piece in pieces { storage.append(contentsOf: piece) }
        precondition(storage.count == count, "\(storage.count) offsets of \(count)")
    }

    public var layers: Int { starts.count - 1 }

    /// Tokens that one head of `layer` keeps.
    public func count(layer: Int) -> Int { (starts[layer + 1] - starts[layer]) / heads }

    @_lifetime(borrow self)
    public func offsets(layer: Int, head: Int) -> Span<UInt32> {
        storage.span.extracting(range(layer, head))
    }

    @_lifetime(&self)
    public mutating func mutableOffsets(layer: Int, head: Int) -> MutableSpan<UInt32> {
        let range = range(layer, head)
        return storage.mutableSpan._consumingExtracting(range)
    }

    private func range(_ layer: Int, _ head: Int) -> Range<Int> {
        precondition(head >= 0 && head < heads, "head \(head) of \(heads)")
        let count = count(layer: layer)
        let start = starts[layer] + head * count
        return start..<start + count
    }
}
