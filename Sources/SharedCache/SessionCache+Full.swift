internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// The full view: every token of one layer, in a file of the client's own.
extension SessionCache {
    /// Where a sealed chunk's tokens are to be had.
    private enum Source: Sendable {
        case staged(StagedChunk)
        case object(StoredObject)
    }

    /// The gate is held only while sources are collected and the window is copied: objects never change, so the writer goes on
    /// while they are read.
    func full(_ number: UInt32, layer: Int, again: Bool, for connection: Connection) async throws(CacheError) -> Answer {
        let handle = try await enter(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        let tokens = resident.currentTokens
        let layout = FullLayout(geometry: resident.geometry, tokens: tokens)
        let sources: [Source]
        let file: SharedMemory
        do {
            defer { session.gate.leave() }
            try CacheError.check("layer", layer, in: 0...resident.geometry.layers - 1)
            file = try await makeFile(layout, session, again ? connection : nil)
            do throws(CacheError) {
                sources = try await collect(session, resident)
            } catch {
                transitBytes -= file.byteCount
                throw error
            }
            await copyWindow(of: resident, tokens: tokens, layer: layer, to: file, layout)
        }
        do throws(CacheError) {
            _ = try await concurrently(sources.count) { chunk throws(CacheError) in
                try await self.copy(sources[chunk], layer: layer, to: file, layout)
            }
        } catch {
            transitBytes -= file.byteCount
            throw error
        }
        if again { keepForAgain(file, of: connection) } else { transitBytes -= file.byteCount }
        metrics.bytesRehydrated += layout.bytes
        return Answer(.full(layout), files: [try GrantedFile(file, writable: true)])
    }

    /// The file of the connection's last view, if it may be used again and is large enough, or a new one. Its bytes are in transit.
    private func makeFile(
        _ layout: FullLayout, _ session: Session, _ connection: Connection?
    ) async throws(CacheError) -> SharedMemory {
        if let last = connection?.lastFull, last.byteCount >= layout.bytes {
            connection?.lastFull = nil
            return last
        }
        try await reserveMemory(layout.bytes, for: session)
        transitBytes += layout.bytes
        do {
            let file = try SharedMemory.create(name: "lagkv-full:\(session.name)", byteCount: layout.bytes)
            // Whole pieces at a time, which costs less than a fault for each page.
            _ = await inPieces(of: layout.bytes) { file.populate($0) }
            return file
        } catch {
            transitBytes -= layout.bytes
            throw CacheError(.outOfResources, "shared memory for a full view", seen: "\(error)")
        }
    }

    /// Keeps a file for the connection's next full view in place of the one it had; its bytes stay in transit meanwhile.
    func keepForAgain(_ file: SharedMemory?, of connection: Connection) {
        if let last = connection.lastFull { transitBytes -= last.byteCount }
        connection.lastFull = file
        if connection.isClosed, let file {
            connection.lastFull = nil
            transitBytes -= file.byteCount
        }
    }

    private func collect(_ session: Session, _ resident: Resident) async throws(CacheError) -> [Source] {
        try await concurrently(resident.sealedChunks) { chunk throws(CacheError) in
            if let staged = session.staged[chunk] { return .staged(staged) }
            return .object(try await session.files.open(chunk: chunk))
        }
    }

    private func copyWindow(of resident: Resident, tokens: Int, layer: Int, to file: SharedMemory, _ layout: FullLayout) async {
        let slabs = resident.slabs
        let first = resident.firstUnsealed(tokens: resident.tokens)
        let row = first - resident.sealedChunks * resident.policy.evicted(inLayer: layer)
        _ = await inPieces(of: resident.geometry.heads) { heads in
            for head in heads {
                let rows = row..<row + tokens - first
                file.copy(
                    slabs.layout.keys(layer: layer, head: head, rows: rows), of: slabs.slab,
                    to: layout.keys(head: head, tokens: first..<tokens, slabs.layout.geometry).lowerBound)
                file.copy(
                    slabs.layout.values(layer: layer, head: head, rows: rows), of: slabs.slab,
                    to: layout.values(head: head, tokens: first..<tokens, slabs.layout.geometry).lowerBound)
            }
        }
        // Ids of all tokens are in the slabs, evicted or not.
        file.copy(slabs.layout.ids(tokens: 0..<tokens), of: slabs.slab, to: layout.idsOffset)
    }

    private func copy(_ source: Source, layer: Int, to file: SharedMemory, _ layout: FullLayout) async throws(CacheError) {
        switch source {
        case .staged(let chunk):
            await compute.run(.seal) { layout.fill(file, layer: layer, from: chunk.raw) }
        case .object(let object):
            let kept = try await object.read(object.index.keptRange(layer: layer), pool)
            let evicted = try await object.read(object.index.evictedRange(layer: layer), pool)
            metrics.bytesRead += kept.range.count + evicted.range.count
            let scratch = scratch
            try await run { () throws(CacheError) in
                try layout.fill(file, layer: layer, from: object.index, kept: kept, evicted: evicted, scratch)
            }
        }
    }
}

extension FullLayout {
    /// Keys of all heads, values of all heads, ids; each part on pages of its own.
    init(geometry: Geometry, tokens: Int) {
        func pages(_ bytes: Int) -> Int { AlignedBuffer.roundedUp(bytes) }
        let keys = pages(geometry.heads * tokens * geometry.keyBytes)
        let values = pages(geometry.heads * tokens * geometry.valueBytes)
        self.init(
            tokens: tokens, keysOffset: 0, keyHeadStride: tokens * geometry.keyBytes, valuesOffset: keys,
            valueHeadStride: tokens * geometry.valueBytes, idsOffset: keys + values, bytes: keys + values + pages(max(1, 4 * tokens)))
    }

    func keys(head: Int, tokens: Range<Int>, _ geometry: Geometry) -> Range<Int> {
        let base = keysOffset + head * keyHeadStride
        return base + tokens.lowerBound * geometry.keyBytes..<base + tokens.upperBound * geometry.keyBytes
    }

    func values(head: Int, tokens: Range<Int>, _ geometry: Geometry) -> Range<Int> {
        let base = valuesOffset + head * valueHeadStride
        return base + tokens.lowerBound * geometry.valueBytes..<base + tokens.upperBound * geometry.valueBytes
    }

    /// Copies one layer of a staged chunk to its tokens' places.
    func fill(_ file: SharedMemory, layer: Int, from chunk: RawChunk) {
        let tokens = chunk.firstPosition..<chunk.firstPosition + chunk.tokenCount
        for head in 0..<chunk.geometry.heads {
            file.copy(
                chunk.keys(layer: layer, head: head), of: chunk.buffer,
                to: keys(head: head, tokens: tokens, chunk.geometry).lowerBound)
            file.copy(
                chunk.values(layer: layer, head: head), of: chunk.buffer,
                to: values(head: head, tokens: tokens, chunk.geometry).lowerBound)
        }
    }
}
