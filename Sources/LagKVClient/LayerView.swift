internal import CacheModel
internal import LinuxKit
internal import WireProtocol

/// What attention reads of one layer, in place: recalled tokens, then sink, kept and window, in rows of every head.
///
/// Nothing is copied, so it is true only as long as `isValid` says so: look after reading, and start over if it is not.
public struct LayerView {
    public let layer: Int
    /// Rows of every head.
    public let count: Int
    /// The first of them, recalled from evicted chunks.
    public let recalled: Int
    public let generation: UInt64

    let geometry: Geometry
    let layout: SharedLayout
    let slab: MappedFile
    let control: MappedFile

    /// Whether what was read up to now is one state of the session.
    public var isValid: Bool {
        Fence.acquire()
        return control.loadRelaxed(at: ControlPage.generationOffset) == generation
    }

    /// [count, keyDim] of the element type.
    @_lifetime(borrow self)
    public func keys(head: Int) -> RawSpan {
        let first = layout.keys(layer: layer, head: check(head)) - recalled * geometry.keyBytes
        return slab.bytes(first..<first + count * geometry.keyBytes)
    }

    /// [count, valueDim] of the element type.
    @_lifetime(borrow self)
    public func values(head: Int) -> RawSpan {
        let first = layout.values(layer: layer, head: check(head)) - recalled * geometry.valueBytes
        return slab.bytes(first..<first + count * geometry.valueBytes)
    }

    /// The position of every row.
    @_lifetime(borrow self)
    public func positions(head: Int) -> Span<Int32> {
        let first = layout.positions(layer: layer, head: check(head)) - 4 * recalled
        return Span(_bytes: control.bytes(first..<first + 4 * count))
    }

    private func check(_ head: Int) -> Int {
        precondition((0..<geometry.heads).contains(head), "head \(head) of \(geometry.heads)")
        return head
    }
}

/// A copy of a view, true for ever.
public struct LayerTokens: Sendable, Hashable {
    /// Rows of every head.
    public var count: Int
    /// [heads, count, keyDim] of the element type.
    public var keys: [UInt8]
    /// [heads, count, valueDim] of the element type.
    public var values: [UInt8]
    /// [heads, count].
    public var positions: [Int32]
}

/// The smallest and the largest key of every sealed chunk of a layer.
public struct ChunkSummaries: Sendable, Hashable {
    /// Sealed chunks.
    public var count: Int
    /// [count, heads, keyDim] of the element type.
    public var lowest: [UInt8]
    /// [count, heads, keyDim] of the element type.
    public var highest: [UInt8]
}

extension Session {
    /// The hot view of a layer, in place.
    /// - Throws: `badHandle` when the session was suspended or deleted meanwhile.
    public func view(layer: Int) throws(ClientError) -> LayerView {
        precondition((0..<description.geometry.layers).contains(layer), "layer \(layer)")
        return try consistently { (generation) throws(ClientError) in try self.readView(layer, generation) }
    }

    private func readView(_ layer: Int, _ generation: UInt64) throws(ClientError) -> LayerView {
        let header = control.header(generation)
        let entry = control.layer(layer)
        let rows = entry.rows.addingReportingOverflow(length(header) - header.tokens)
        // Read while the daemon changes it, the sum may be anything: then the generation has changed, and this is tried
        // again by whoever called. If it has not, the numbers are wrong.
        guard !rows.overflow, rows.partialValue <= layout.rows, entry.recalled <= layout.recallRows else {
            Fence.acquire()
            if control.generation == generation { throw Self.badControl }
            return LayerView(
                layer: layer, count: 0, recalled: 0, generation: generation, geometry: description.geometry, layout: layout,
                slab: slab, control: control.file)
        }
        return LayerView(
            layer: layer, count: entry.recalled + rows.partialValue, recalled: entry.recalled, generation: generation,
            geometry: description.geometry, layout: layout, slab: slab, control: control.file)
    }

    /// The hot view of a layer, copied at one generation.
    public func copyView(layer: Int) throws(ClientError) -> LayerTokens {
        while true {
            let view = try view(layer: layer)
            var copy = LayerTokens(count: view.count, keys: [], values: [], positions: [])
            for head in 0..<description.geometry.heads {
                view.keys(head: head).withUnsafeBytes { copy.keys.append(contentsOf: $0) }
                view.values(head: head).withUnsafeBytes { copy.values.append(contentsOf: $0) }
                view.positions(head: head).withUnsafeBufferPointer { copy.positions.append(contentsOf: $0) }
            }
            if view.isValid { return copy }
        }
    }

    /// The summaries of a layer's sealed chunks, copied at one generation.
    public func summaries(layer: Int) throws(ClientError) -> ChunkSummaries {
        precondition((0..<description.geometry.layers).contains(layer), "layer \(layer)")
        let half = description.geometry.heads * description.geometry.keyBytes
        let most = description.policy.sealedChunks(tokens: description.capacity)
        return try consistently { (generation) throws(ClientError) in
            // Bounded, for it may be read while it changes.
            let count = min(most, self.control.header(generation).sealedChunks)
            var summaries = ChunkSummaries(count: count, lowest: [], highest: [])
            for chunk in 0..<count {
                let first = self.layout.summary(layer: layer, chunk: chunk)
                self.control.file.withUnsafeBytes(first..<first + half) { summaries.lowest.append(contentsOf: $0) }
                self.control.file.withUnsafeBytes(first + half..<first + 2 * half) { summaries.highest.append(contentsOf: $0) }
            }
            return summaries
        }
    }
}
