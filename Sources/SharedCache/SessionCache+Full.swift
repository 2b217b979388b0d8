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
            try await rehydrate(sources, layer: layer, to: file, layout, ahead: again ? connection : nil, session)
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
        let first = resident.policy.firstUnsealed(tokens: resident.tokens)
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

    /// - Parameter connection: whose next view is likely to be of the next layer; nil if none is.
    private func rehydrate(
        _ sources: [Source], layer: Int, to file: SharedMemory, _ layout: FullLayout, ahead connection: Connection?,
        _ session: Session
    ) async throws(CacheError) {
        var objects: [StoredObject] = []
        var staged: [StagedChunk] = []
        for source in sources {
            switch source {
            case .object(let object): objects.append(object)
            case .staged(let chunk): staged.append(chunk)
            }
        }
        if !staged.isEmpty {
            let chunks = staged
            _ = await inPieces(of: chunks.count) { for number in $0 { layout.fill(file, layer: layer, from: chunks[number].raw) } }
        }
        guard !objects.isEmpty else { return }
        let ahead = await reader(of: objects, layer: layer, for: connection, session)
        do throws(CacheError) {
            try await decode(objects, layer: layer, to: file, layout, from: ahead)
        } catch {
            await letGo(of: ahead)
            throw error
        }
        guard let connection, ahead.endView(), !connection.isClosed else { return await letGo(of: ahead) }
        let last = connection.takeReadAhead()
        connection.readAhead = ahead
        await letGo(of: last)
    }

    private func decode(
        _ objects: [StoredObject], layer: Int, to file: SharedMemory, _ layout: FullLayout, from ahead: ReadAhead
    ) async throws(CacheError) {
        ahead.beginView(objects)
        let scratch = scratch
        _ = try await concurrently(objects.count) { number throws(CacheError) in
            defer { ahead.letGo(number) }
            let (index, item) = (objects[number].index, try await ahead.item(number))
            try await self.run { () throws(CacheError) in
                try layout.fill(file, layer: layer, from: index, kept: item.kept, evicted: item.evicted, scratch)
            }
        }
    }

    // MARK: Reading ahead

    /// Bytes that are read at a time where nothing is read ahead, or the budget has no room for it: what 16 reads of the usual
    /// sizes take. They count as little as a worker's scratch.
    static let readingBytes = 8 << 20

    /// What the connection's last view has read ahead, if this view continues it, or else a new one. It reads for later views as well
    /// where the budget has room for that as it is: nobody is suspended for what may not be wanted.
    private func reader(
        of objects: [StoredObject], layer: Int, for connection: Connection?, _ session: Session
    ) async -> ReadAhead {
        let count: @CacheLoop (Int) -> Void = { self.metrics.bytesRead += $0 }
        if let connection {
            let last = connection.takeReadAhead()
            if let last, last.isFor(objects, layer: layer) { return last }
            await letGo(of: last)
            let ahead = ReadAhead(objects, layers: layer..<session.geometry.layers, byteLimit: settings.readAhead, pool, onRead: count)
            if chargedMemory() + ahead.byteCount <= settings.memoryBudget {
                ahead.charged = ahead.byteCount
                transitBytes += ahead.charged
                return ahead
            }
        }
        return ReadAhead(
            objects, layers: layer..<layer + 1, byteLimit: min(Self.readingBytes, settings.readAhead), pool, onRead: count)
    }

    /// Gives back what was read ahead, once the disk is done with it.
    func letGo(of ahead: ReadAhead?) async {
        guard let ahead else { return }
        await ahead.end()
        transitBytes -= ahead.charged
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
