internal import CacheModel
internal import WireProtocol

/// Where one session's rows, ids, positions and summaries lie in its two shared files. A pure function of its description.
///
/// Slab file: a page for the published count, the token ids, then per layer the keys of all heads and the values of all
/// heads. Each head has room for `recallRows` rows to the left of row 0 and `rows` rows from it on, and row 0 is
/// page-aligned, so that the hot view is one contiguous range whether tokens are recalled or not. All of it is sparse.
struct SlabLayout: Sendable, Hashable {
    static let page = 4_096

    let geometry: Geometry
    let policy: Policy
    let wire: SharedLayout

    /// - Throws: `limitExceeded` when the slabs would not fit an address space.
    init(_ description: SessionDescription) throws(CacheError) {
        geometry = description.geometry
        policy = description.policy
        let rows = description.capacity
        // No more can be recalled than is evicted when the session is full.
        let recallRows = policy.sealedChunks(tokens: rows) * (policy.lag - policy.keptPerChunk)

        let keyBase = Self.pages(recallRows * geometry.keyBytes)
        let valueBase = Self.pages(recallRows * geometry.valueBytes)
        let keyHeadStride = keyBase + Self.pages(rows * geometry.keyBytes)
        let valueHeadStride = valueBase + Self.pages(rows * geometry.valueBytes)
        let valuesOffset = geometry.heads * keyHeadStride
        let layerStride = valuesOffset + geometry.heads * valueHeadStride
        let idsOffset = Self.page
        let layersOffset = idsOffset + Self.pages(rows * 4)
        let slabBytes = layersOffset + geometry.layers * layerStride
        try CacheError.check("bytes of the session's slabs (capacity × geometry)", slabBytes, in: 0...Limits.slabBytes)

        let layerTableOffset = Self.page
        let positionsOffset = layerTableOffset + Self.pages(geometry.layers * 16)
        let positionsHeadStride = Self.pages((recallRows + rows) * 4)
        let positionsLayerStride = geometry.heads * positionsHeadStride
        let summariesOffset = positionsOffset + geometry.layers * positionsLayerStride
        let summariesChunkStride = 2 * geometry.heads * geometry.keyBytes
        // One more than can be sealed: scoring a chunk bounds the next.
        let summariesLayerStride = Self.pages((policy.sealedChunks(tokens: rows) + 1) * summariesChunkStride)
        var wire = SharedLayout()
        wire.slabBytes = slabBytes
        wire.controlBytes = summariesOffset + geometry.layers * summariesLayerStride
        wire.idsOffset = idsOffset
        wire.layersOffset = layersOffset
        wire.layerStride = layerStride
        wire.keyHeadStride = keyHeadStride
        wire.valueHeadStride = valueHeadStride
        wire.valuesOffset = valuesOffset
        wire.keyBase = keyBase
        wire.valueBase = valueBase
        wire.recallRows = recallRows
        wire.rows = rows
        wire.layerTableOffset = layerTableOffset
        wire.positionsOffset = positionsOffset
        wire.positionsLayerStride = positionsLayerStride
        wire.positionsHeadStride = positionsHeadStride
        wire.summariesOffset = summariesOffset
        wire.summariesLayerStride = summariesLayerStride
        wire.summariesChunkStride = summariesChunkStride
        self.wire = wire
    }

    private static func pages(_ bytes: Int) -> Int { (bytes + page - 1) / page * page }

    /// Byte range, in the slab file, of keys of rows `rows` of one head. Rows left of row 0 are negative.
    func keys(layer: Int, head: Int, rows: Range<Int>) -> Range<Int> {
        let base = wire.layersOffset + layer * wire.layerStride + head * wire.keyHeadStride + wire.keyBase
        return base + rows.lowerBound * geometry.keyBytes..<base + rows.upperBound * geometry.keyBytes
    }

    /// Byte range, in the slab file, of values of rows `rows` of one head.
    func values(layer: Int, head: Int, rows: Range<Int>) -> Range<Int> {
        let base = wire.layersOffset + layer * wire.layerStride + wire.valuesOffset + head * wire.valueHeadStride + wire.valueBase
        return base + rows.lowerBound * geometry.valueBytes..<base + rows.upperBound * geometry.valueBytes
    }

    /// The byte ranges of the slab file between the resident rows, from row 0 on, of a session of `tokens` tokens: the page of the
    /// count, the ids, recalled rows, and what is behind the last row.
    func others(than tokens: Int) -> [Range<Int>] {
        var others: [Range<Int>] = []
        var end = 0
        func skip(_ rows: Range<Int>) {
            others.append(end..<rows.lowerBound)
            end = rows.upperBound
        }
        for layer in 0..<geometry.layers {
            let rows = 0..<policy.residentTokens(tokens: tokens, layer: layer)
            for head in 0..<geometry.heads { skip(keys(layer: layer, head: head, rows: rows)) }
            for head in 0..<geometry.heads { skip(values(layer: layer, head: head, rows: rows)) }
        }
        return others + [end..<wire.slabBytes]
    }

    /// From the first of rows `rows` of head 0 to the last of the last head: with `keyHeadStride`, these rows of every head.
    func keys(layer: Int, rows: Range<Int>) -> Range<Int> {
        keys(layer: layer, head: 0, rows: rows).lowerBound..<keys(layer: layer, head: geometry.heads - 1, rows: rows).upperBound
    }

    /// As `keys(layer:rows:)`, with `valueHeadStride`.
    func values(layer: Int, rows: Range<Int>) -> Range<Int> {
        values(layer: layer, head: 0, rows: rows).lowerBound..<values(layer: layer, head: geometry.heads - 1, rows: rows).upperBound
    }

    /// Byte range, in the slab file, of the ids of tokens `tokens`.
    func ids(tokens: Range<Int>) -> Range<Int> {
        wire.idsOffset + 4 * tokens.lowerBound..<wire.idsOffset + 4 * tokens.upperBound
    }

    /// Byte range, in the control file, of the positions of rows `rows` of one head.
    func positions(layer: Int, head: Int, rows: Range<Int>) -> Range<Int> {
        let base = wire.positionsOffset + layer * wire.positionsLayerStride + head * wire.positionsHeadStride + 4 * wire.recallRows
        return base + 4 * rows.lowerBound..<base + 4 * rows.upperBound
    }

    /// Byte range, in the control file, of the summary (lo of all heads, then hi) of one sealed chunk of one layer.
    func summary(layer: Int, chunk: Int) -> Range<Int> {
        let start = wire.summariesOffset + layer * wire.summariesLayerStride + chunk * wire.summariesChunkStride
        return start..<start + wire.summariesChunkStride
    }

    /// Byte range, in the control file, of one head's `lo` in a summary.
    func lowerBounds(layer: Int, chunk: Int, head: Int) -> Range<Int> {
        let start = summary(layer: layer, chunk: chunk).lowerBound + head * geometry.keyBytes
        return start..<start + geometry.keyBytes
    }

    /// Byte range, in the control file, of one head's `hi` in a summary.
    func upperBounds(layer: Int, chunk: Int, head: Int) -> Range<Int> {
        let start = summary(layer: layer, chunk: chunk).lowerBound + (geometry.heads + head) * geometry.keyBytes
        return start..<start + geometry.keyBytes
    }

    /// The row of the first token of chunk `chunk` when chunks below it are sealed and compacted.
    func firstRow(ofChunk chunk: Int, layer: Int) -> Int { policy.sink + chunk * policy.kept(inLayer: layer) }

    /// Per layer, the rows from row 0 on when there are `tokens` tokens and room up to `grant`.
    func rows(tokens: Int, grant: Int) -> [Int] {
        let sealed = policy.sealedChunks(tokens: tokens)
        return (0..<geometry.layers).map { grant - sealed * policy.evicted(inLayer: $0) }
    }

    /// Bytes of memory that so many rows of each layer, those that are recalled, and the bookkeeping of `grant` tokens take, in
    /// whole pages: what a budget is charged. It never grows while tokens fill the room that was granted.
    func residentBytes(rows: [Int], grant: Int, recalled: Int) -> Int {
        let perHead = rows.reduce(0) {
            $0 + Self.pages($1 * geometry.keyBytes) + Self.pages($1 * geometry.valueBytes) + Self.pages($1 * 4)
        }
        let summaries = geometry.layers * policy.sealedChunks(tokens: grant) * wire.summariesChunkStride
        return geometry.heads * (perHead + recalled * geometry.rowBytes) + Self.pages(grant * 4) + summaries + 3 * Self.page
    }
}
