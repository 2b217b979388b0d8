internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// Appending: a commit, and the seals it brings.
extension SessionCache {
    func commit(
        _ number: UInt32, tokens: Int, _ options: CommitOptions, for connection: Connection
    ) async throws(CacheError) -> Standing {
        let handle = try await enterWriting(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        defer { session.gate.leave() }
        try check(tokens, session, resident)
        let chunks = resident.sealedChunks..<resident.policy.sealedChunks(tokens: tokens)
        let staged = try await stage(chunks, of: session)

        resident.slabs.beginChange()
        let before = resident.tokens
        resident.tokens = tokens
        var refusal: CacheError?
        // While there is room up to the next seal, a commit that seals nothing changes a few words.
        if !chunks.isEmpty || resident.grant < resident.policy.nextSeal(after: tokens) {
            refusal = await extendGrant(session, resident, tokens: tokens)
        }
        if chunks.isEmpty {
            resident.extendPositions()
        } else {
            await seal(chunks, as: staged, of: session, resident, givesPagesBack: !options.contains(.more))
            charge(session, resident)
        }
        resident.publishLayout()
        metrics.tokensAppended += tokens - before
        metrics.bytesAppended += (tokens - before) * resident.geometry.tokenBytes
        // A commit that brought nothing asked for room.
        if tokens == before, let refusal { throw refusal }
        if options.contains(.durable) { try await drain(session) }
        return standing(session, resident)
    }

    private func check(_ tokens: Int, _ session: Session, _ resident: Resident) throws(CacheError) {
        let current = resident.currentTokens
        guard tokens >= current else {
            throw CacheError(.badTokenCount, "a commit of fewer tokens than there are", seen: "\(tokens)", expected: "\(current) or more")
        }
        guard tokens <= session.description.capacity else {
            throw CacheError(.beyondCapacity, "a commit beyond the session's capacity", seen: "\(tokens) tokens", expected: "at most \(session.description.capacity)")
        }
        // A writer that has used up its room may ask for more by committing what is there.
        guard tokens <= resident.grant || tokens == current else {
            throw CacheError(.beyondGrant, "a commit beyond the room that was granted", seen: "\(tokens) tokens", expected: "at most \(resident.grant)")
        }
    }

    func standing(_ session: Session, _ resident: Resident) -> Standing {
        Standing(
            tokens: resident.tokens, sealedChunks: resident.sealedChunks, durableTokens: session.files.durableTokens,
            generation: resident.slabs.generation)
    }

    // MARK: Sealing

    /// Waits for room to stage `chunks`, and takes it.
    /// - Throws: what keeps the disk from taking chunks, if room would have to come from there. Nothing is changed then.
    private func stage(_ chunks: Range<Int>, of session: Session) async throws(CacheError) -> [RawChunk] {
        guard !chunks.isEmpty else { return [] }
        let spans = chunks.map { TokenSpan(chunk: $0, policy: session.policy) }
        let bytes = spans.reduce(0) { $0 + RawChunk.byteCount(geometry: session.geometry, tokenCount: $1.count) }
        try checkFault(of: session.owner, staging: bytes)
        while stagedBytes > 0, stagedBytes + bytes > settings.staging {
            // Room comes from chunks that become durable; where none can, waiting is in vain.
            let staging = sessions.values.filter { !$0.staged.isEmpty }
            if staging.allSatisfy({ $0.fault != nil }), let fault = staging.first?.fault { throw fault }
            metrics.stagingWaits += 1
            await stagingChanged.wait()
            try checkFault(of: session.owner, staging: bytes)
        }
        stagedBytes += bytes
        return spans.map { RawChunk(geometry: session.geometry, firstPosition: $0.first, tokenCount: $0.count, pool) }
    }

    /// The share of the staging room that chunks of a user may take whose writes the disk or a budget refuses: the rest is for
    /// the others.
    private static let faultyShare = 4

    private func checkFault(of owner: UInt32, staging bytes: Int) throws(CacheError) {
        let own = sessions.values.filter { $0.owner == owner && !$0.staged.isEmpty }
        guard let fault = own.lazy.compactMap(\.fault).first else { return }
        let held = own.reduce(0) { $0 + $1.staged.values.reduce(0) { $0 + $1.byteCount } }
        if held + bytes > settings.staging / Self.faultyShare { throw fault }
    }

    /// Scores, stages and compacts chunks, in as many pieces as there are workers, and hands them to the writers. A change of
    /// layout is under way, and `resident.tokens` is the new count.
    private func seal(
        _ chunks: Range<Int>, as raw: [RawChunk], of session: Session, _ resident: Resident, givesPagesBack: Bool
    ) async {
        let finish = SealJob.Finish(
            tokens: resident.tokens, boundary: resident.boundary, touchedRows: givesPagesBack ? resident.touchedRows : nil)
        let slabs = resident.slabs
        let outcomes = await inPieces(of: resident.geometry.layers) { layers in
            SealJob(slabs: slabs, layers: layers, first: chunks.lowerBound, staged: raw, finish: finish).run()
        }
        resident.positionedTokens = resident.boundary - 1
        if givesPagesBack {
            resident.touchedRows = resident.touchedRows.map { _ in 0 }
            resident.touchUpToGrant()
        }
        for (index, chunk) in chunks.enumerated() {
            let tokens = raw[index].firstPosition..<raw[index].firstPosition + raw[index].tokenCount
            raw[index].buffer.copy(resident.layout.ids(tokens: tokens), of: slabs.slab, to: raw[index].ids.lowerBound)
            hand(chunk, raw[index], chosen: outcomes.map { $0.kept[index] }, of: session, resident)
        }
        metrics.chunksSealed += chunks.count
        metrics.abnormalTokens += outcomes.reduce(0) { $0 + $1.abnormalTokens }
    }

    /// Hands one sealed chunk to the writers. `chosen` are the offsets that each piece of the layers keeps, in order.
    private func hand(_ chunk: Int, _ raw: RawChunk, chosen: [[UInt32]], of session: Session, _ resident: Resident) {
        let header = ObjectHeader.chunk(
            chunk, of: session.description, id: .random(from: entropy), parent: resident.chunkIDs.last ?? .none,
            sequence: session.files.takeSequence())
        resident.chunkIDs.append(header.id)
        let staged = StagedChunk(
            number: chunk, raw: raw, kept: KeptOffsets(for: header, flat: chosen.joined()),
            summaries: resident.slabs.summaries(chunk: chunk), header: header)
        session.staged[chunk] = staged
        session.waiting.append(staged)
        spill(session)
    }

    /// Runs `body` on workers for `count` things cut into as many runs as there are workers, and waits for all, in order.
    func inPieces<Value: Sendable>(of count: Int, _ body: @escaping @Sendable (Range<Int>) -> Value) async -> [Value] {
        let pieces = max(1, min(compute.width, count))
        let tasks = (0..<pieces).map { piece in
            CacheLoop.start { await compute.run(.seal) { body(count * piece / pieces..<count * (piece + 1) / pieces) } }
        }
        var values: [Value] = []
        for task in tasks { values.append(await task.value) }
        return values
    }
}

/// The tokens of one sealed chunk's object: the chunk's own, and for chunk 0 the sink before them.
struct TokenSpan {
    let first: Int
    let count: Int

    init(chunk: Int, policy: Policy) {
        first = chunk == 0 ? 0 : policy.firstPosition(ofChunk: chunk)
        count = policy.firstPosition(ofChunk: chunk + 1) - first
    }
}
