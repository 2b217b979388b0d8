internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// Recall: evicted tokens of chosen chunks join the hot view, to the left of the sink.
///
/// Invariant: in every layer each head has recalled the same number of chunks, so the view stays rectangular; a chunk is
/// recalled at most once in a head.
extension SessionCache {
    func recall(_ number: UInt32, _ choices: [RecallChoice], for connection: Connection) async throws(CacheError) -> Standing {
        let handle = try await enterWriting(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        defer { session.gate.leave() }
        let wanted = try plan(choices, resident)
        let rows = wanted.reduce(0) { $0 + $1.rows }
        try await reserveMemory(rows * resident.geometry.rowBytes, for: session)
        resident.charged += rows * resident.geometry.rowBytes
        do throws(CacheError) {
            try await fetch(wanted, of: session, resident)
        } catch {
            for layer in Set(wanted.map(\.layer)) {
                resident.slabs.discardRecalled(layer: layer, butFor: resident.recalledRows(layer: layer))
            }
            charge(session, resident)
            throw error
        }
        resident.slabs.beginChange()
        for item in wanted { resident.recalled[item.layer][item.head].insert(item.chunk) }
        resident.tokens = resident.currentTokens
        charge(session, resident)
        resident.publishLayout()
        metrics.recalls += 1
        metrics.chunksRecalled += wanted.count
        metrics.bytesRecalled += rows * resident.geometry.rowBytes
        return standing(session, resident)
    }

    func release(_ number: UInt32, for connection: Connection) async throws(CacheError) -> Standing {
        let handle = try await enterWriting(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        defer { session.gate.leave() }
        resident.slabs.beginChange()
        resident.tokens = resident.currentTokens
        releaseRecalled(resident)
        charge(session, resident)
        resident.publishLayout()
        return standing(session, resident)
    }

    /// Takes recalled rows out of the view and gives their pages back. A change of layout is under way.
    func releaseRecalled(_ resident: Resident) {
        for layer in 0..<resident.geometry.layers {
            if resident.recalledRows(layer: layer) > 0 { resident.slabs.discardRecalled(layer: layer) }
            resident.recalled[layer] = Array(repeating: [], count: resident.geometry.heads)
        }
    }

    /// Checks the choices and lays their rows out, oldest chunk leftmost.
    private func plan(_ choices: [RecallChoice], _ resident: Resident) throws(CacheError) -> [RecalledRows] {
        var wanted: [RecalledRows] = []
        var layers: Set<Int> = []
        for choice in choices {
            let layer = choice.layer
            try CacheError.check("layer", layer, in: 0...resident.geometry.layers - 1)
            guard layers.insert(layer).inserted else {
                throw CacheError(.badRequest, "a recall", seen: "layer \(layer) twice", expected: "each layer once")
            }
            guard choice.chunks.count == resident.geometry.heads else {
                throw CacheError(.badRequest, "a recall in layer \(layer)", seen: "\(choice.chunks.count) heads", expected: "\(resident.geometry.heads)")
            }
            let evicted = resident.policy.evicted(inLayer: layer)
            guard evicted > 0 else {
                throw CacheError(.nothingEvicted, "a recall in layer \(layer)", seen: "a layer that keeps everything", expected: "a compressed layer")
            }
            for (head, chunks) in choice.chunks.enumerated() {
                try check(chunks, layer: layer, head: head, resident)
                let left = -(resident.recalledRows(layer: layer) + chunks.count * evicted)
                for (index, chunk) in chunks.sorted().enumerated() {
                    wanted.append(RecalledRows(layer: layer, head: head, chunk: chunk, row: left + index * evicted, rows: evicted))
                }
            }
        }
        return wanted
    }

    private func check(_ chunks: [Int], layer: Int, head: Int, _ resident: Resident) throws(CacheError) {
        var seen = resident.recalled[layer][head]
        for chunk in chunks {
            guard (0..<resident.sealedChunks).contains(chunk) else {
                throw CacheError(
                    .notSealed, "a recall in layer \(layer), head \(head)", seen: "chunk \(chunk)",
                    expected: "one of the \(resident.sealedChunks) sealed chunks")
            }
            guard seen.insert(chunk).inserted else {
                throw CacheError(
                    .alreadyRecalled, "a recall in layer \(layer), head \(head)", seen: "chunk \(chunk), which is in the view",
                    expected: "each chunk once until release")
            }
        }
    }

    /// Fills the rows, which nobody looks at yet, a chunk and a layer at a time.
    private func fetch(_ wanted: [RecalledRows], of session: Session, _ resident: Resident) async throws(CacheError) {
        let byChunk = Dictionary(grouping: wanted, by: \.chunk).sorted { $0.key < $1.key }
        let slabs = resident.slabs
        _ = try await concurrently(byChunk.count) { index throws(CacheError) in
            let (chunk, items) = byChunk[index]
            if let staged = session.staged[chunk] {
                await self.compute.run(.seal) { for item in items { item.fill(slabs, from: staged) } }
            } else {
                try await self.fetch(items, from: try await session.files.open(chunk: chunk), into: slabs)
            }
        }
    }

    private func fetch(_ items: [RecalledRows], from object: StoredObject, into slabs: Slabs) async throws(CacheError) {
        let byLayer = Dictionary(grouping: items, by: \.layer).sorted { $0.key < $1.key }
        let scratch = scratch
        _ = try await concurrently(byLayer.count) { index throws(CacheError) in
            let (layer, items) = byLayer[index]
            // One read from the first wanted head to the last: heads lie side by side.
            let ranges = items.map { object.index.evictedRange(layer: layer, head: $0.head) }
            let span = ranges.map(\.lowerBound).min()!..<ranges.map(\.upperBound).max()!
            let bytes = try await object.read(span, self.pool)
            self.metrics.bytesRead += span.count
            try await self.run { () throws(CacheError) in
                for item in items { try item.fill(slabs, from: object.index, bytes, at: span.lowerBound, scratch) }
            }
        }
    }
}

/// One chunk of one head, and where its evicted tokens go.
private struct RecalledRows: Sendable {
    let layer: Int
    let head: Int
    let chunk: Int
    let row: Int
    /// How many evicted tokens it has.
    let rows: Int
}

extension RecalledRows {
    /// Decodes the evicted rows to their place.
    func fill(
        _ slabs: Slabs, from index: ObjectIndex, _ bytes: FileBytes, at start: Int, _ scratch: CodecScratch
    ) throws(CacheError) {
        let (places, slab) = (row..<row + rows, slabs.slab)
        try index.decodeEvicted(
            layer: layer, head: head, from: bytes.bytes(index.evictedRange(layer: layer, head: head), from: start),
            keys: slab.mutableBytes(slabs.layout.keys(layer: layer, head: head, rows: places)),
            values: slab.mutableBytes(slabs.layout.values(layer: layer, head: head, rows: places)), scratch: scratch)
        setPositions(slabs)
    }

    /// Copies the evicted rows from where they wait for the disk.
    func fill(_ slabs: Slabs, from staged: StagedChunk) {
        let first = slabs.layout.policy.firstPosition(ofChunk: chunk) - staged.raw.firstPosition
        for (index, offset) in slabs.evictedOffsets(chunk: chunk, layer: layer, head: head).enumerated() {
            let token = first + Int(offset)
            slabs.copy(from: staged.raw, tokens: token..<token + 1, layer: layer, head: head, toRow: row + index)
        }
        setPositions(slabs)
    }

    private func setPositions(_ slabs: Slabs) {
        let offsets = slabs.evictedOffsets(chunk: chunk, layer: layer, head: head)
        slabs.setPositions(
            layer: layer, head: head, row: row, offsets.span, from: slabs.layout.policy.firstPosition(ofChunk: chunk))
    }
}
