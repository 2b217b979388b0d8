internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// Going back: truncating a session, and forking one at an earlier length. Both come down to one thing: the tokens that would
/// be unsealed at that length, bit for bit, from disk where they have been sealed since.
extension SessionCache {
    func truncate(_ number: UInt32, to tokens: Int, for connection: Connection) async throws(CacheError) -> Standing {
        let handle = try await enterWriting(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        defer { session.gate.leave() }
        let current = resident.currentTokens
        guard (0...current).contains(tokens) else {
            throw CacheError(.badTokenCount, "truncating a session", seen: "to \(tokens) tokens", expected: "0 to \(current)")
        }
        await abandonDelivery(of: resident)
        try await drain(session)
        let bytes = resident.residentBytes(tokens: tokens, grant: tokens)
        try await reserveMemory(bytes - resident.charged, for: session)
        resident.charged = max(resident.charged, bytes)
        let shortens = session.files.tokens > tokens
        let window: RawChunk
        do throws(CacheError) {
            window = try await unsealed(of: session, tokens: tokens)
            if shortens { try await publish(window, of: session, tokens: tokens) }
        } catch {
            charge(session, resident)
            throw error
        }
        // Nothing can fail from here on.
        await rewind(session, resident, to: tokens, window: window)
        metrics.truncates += 1
        if shortens { retryWrites() }
        return standing(session, resident)
    }

    private func rewind(_ session: Session, _ resident: Resident, to tokens: Int, window: RawChunk) async {
        let unseals = resident.policy.sealedChunks(tokens: tokens) < resident.sealedChunks
        resident.slabs.beginChange()
        releaseRecalled(resident)
        resident.tokens = tokens
        resident.chunkIDs.removeLast(resident.chunkIDs.count - resident.sealedChunks)
        if unseals {
            await place(window, in: resident, tokens: 0..<window.tokenCount)
            resident.positionedTokens = 0
            metrics.chunksUnsealed += 1
        }
        for layer in 0..<resident.geometry.layers {
            let end = resident.policy.residentTokens(tokens: tokens, layer: layer)
            if end < resident.touchedRows[layer] { resident.slabs.discard(layer: layer, rows: end..<resident.touchedRows[layer]) }
            resident.touchedRows[layer] = end
        }
        resident.grant = tokens
        charge(session, resident)
        _ = await extendGrant(session, resident, tokens: tokens)
        resident.extendPositions()
        resident.publishLayout()
        resident.slabs.publishDurable(tokens: session.files.durableTokens)
    }

    func fork(
        _ reference: SessionReference, as newName: SessionName, tokens: Int?, for caller: Caller
    ) async throws(CacheError) -> SessionRow {
        let session = try find(reference, for: caller)
        await session.gate.enter()
        defer { session.gate.leave() }
        guard !session.isDeleted else { throw Self.notFound(session.name) }
        let current = session.tokens
        let tokens = tokens ?? current
        guard (0...current).contains(tokens) else {
            throw CacheError(.badTokenCount, "forking session “\(session.name)”", seen: "at \(tokens) tokens", expected: "0 to \(current)")
        }
        try await drain(session)
        let window = try await unsealed(of: session, tokens: tokens)
        let fork = try await register(newName, session.description, owner: caller.user) { manifest throws(CacheError) in
            try await self.store.fork(
                session.files, chunks: session.policy.sealedChunks(tokens: tokens),
                window: { sequence throws(CacheError) in
                    try await self.windowObject(window, of: session, tokens: tokens, sequence: sequence)
                }, owner: caller.user, name: newName, manifest)
        }
        metrics.forks += 1
        return row(fork)
    }

    // MARK: Unsealed tokens

    /// The tokens that are unsealed in a session of its first `tokens` tokens: [0, tokens) while nothing would be sealed, else from
    /// the first unsealed chunk on. Every sealed chunk is durable.
    ///
    /// They come from chunk objects as far as those reach, then from the slabs or, in a suspended session, from the window object.
    func unsealed(of session: Session, tokens: Int) async throws(CacheError) -> RawChunk {
        let policy = session.policy
        let sealed = policy.sealedChunks(tokens: tokens)
        let first = policy.firstUnsealed(tokens: tokens)
        let window = RawChunk(geometry: session.geometry, firstPosition: first, tokenCount: tokens - first, pool)
        let inMemory = session.resident.map { $0.policy.firstUnsealed(tokens: $0.tokens) } ?? tokens
        var position = first
        for chunk in sealed..<max(sealed, session.files.durable.chunks.count) where position < min(tokens, inMemory) {
            let object = try await wholeChunk(try await session.files.open(chunk: chunk), of: session)
            let end = min(tokens, object.firstPosition + object.tokenCount)
            window.copy(tokens: position..<end, from: object)
            position = end
        }
        guard position < tokens else { return window }
        if let resident = session.resident {
            await copyRows(of: resident, tokens: position..<tokens, to: window)
        } else {
            guard let object = try await session.files.openWindow() else {
                throw CacheError(.corrupt, "session “\(session.name)”", seen: "no window object", expected: "tokens up to \(tokens)")
            }
            window.copy(tokens: position..<tokens, from: try await wholeChunk(object, of: session))
        }
        return window
    }

    /// Reads and decodes every token of an object.
    private func wholeChunk(_ object: StoredObject, of session: Session) async throws(CacheError) -> RawChunk {
        let bytes = try await object.read(0..<object.index.fileByteCount, pool)
        metrics.bytesRead += bytes.range.count
        let (scratch, header) = (scratch, object.header)
        let size = RawChunk.byteCount(geometry: header.geometry, tokenCount: header.tokenCount)
        let buffer = pool.take(byteCount: max(1, size))
        return try await run { () throws(CacheError) in
            try object.index.decodeChunk(bytes.all, into: buffer, scratch: scratch)
        }
    }

    /// Copies unsealed tokens from the slabs. They count from the session's first.
    func copyRows(of resident: Resident, tokens: Range<Int>, to chunk: RawChunk) async {
        await copyRows(of: resident.slabs.slab, resident.layout, sealed: resident.sealedChunks, tokens: tokens, to: chunk)
    }

    /// As above, from a slab file in which `sealed` chunks are sealed.
    func copyRows(of slab: some MemoryRegion, _ layout: SlabLayout, sealed: Int, tokens: Range<Int>, to chunk: RawChunk) async {
        _ = await inPieces(of: layout.geometry.layers) { layers in
            for layer in layers {
                let row = tokens.lowerBound - sealed * layout.policy.evicted(inLayer: layer)
                for head in 0..<layout.geometry.heads {
                    layout.copy(
                        rows: row..<row + tokens.count, layer: layer, head: head, of: slab, to: chunk,
                        at: tokens.lowerBound - chunk.firstPosition)
                }
            }
        }
        let at = chunk.ids.lowerBound + 4 * (tokens.lowerBound - chunk.firstPosition)
        chunk.buffer.copy(layout.ids(tokens: tokens), of: slab, to: at)
    }
}
