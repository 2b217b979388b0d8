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
        let before = resident.tokens
        if options.contains(.delivered) {
            try await commitDelivered(session, resident, tokens: tokens)
        } else {
            await abandonDelivery(of: resident)
            try await commitWritten(session, resident, tokens: tokens)
        }
        resident.publishLayout()
        metrics.tokensAppended += tokens - before
        metrics.bytesAppended += (tokens - before) * resident.geometry.tokenBytes
        if options.contains(.durable) { try await drain(session) }
        return standing(session, resident)
    }

    /// Makes tokens that lie in the slabs part of the session. A change of layout is under way afterwards.
    private func commitWritten(_ session: Session, _ resident: Resident, tokens: Int) async throws(CacheError) {
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
            await seal(chunks, as: staged, of: session, resident)
        }
        // A commit that brought nothing asked for room.
        if tokens == before, let refusal {
            resident.publishLayout()
            throw refusal
        }
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
        try await awaitStaging(bytes, of: session)
        stagedBytes += bytes
        return spans.map { RawChunk(geometry: session.geometry, firstPosition: $0.first, tokenCount: $0.count, pool) }
    }

    /// Waits until `bytes` more bytes may be staged.
    /// - Throws: as `stage`.
    func awaitStaging(_ bytes: Int, of session: Session) async throws(CacheError) {
        try checkFault(of: session.owner, staging: bytes)
        while stagedBytes > 0, stagedBytes + bytes > settings.staging {
            // Room comes from chunks that become durable; where none can, waiting is in vain.
            let staging = sessions.values.filter { !$0.staged.isEmpty }
            if staging.allSatisfy({ $0.fault != nil }), let fault = staging.first?.fault { throw fault }
            metrics.stagingWaits += 1
            await stagingChanged.wait()
            try checkFault(of: session.owner, staging: bytes)
        }
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
    private func seal(_ chunks: Range<Int>, as raw: [RawChunk], of session: Session, _ resident: Resident) async {
        let finish = SealJob.Finish(tokens: resident.tokens, boundary: resident.boundary, touchedRows: resident.touchedRows)
        let slabs = resident.slabs
        let outcomes = await inPieces(of: resident.geometry.layers) { layers in
            SealJob(slabs: slabs, layers: layers, first: chunks.lowerBound, staged: raw, finish: finish).run()
        }
        let staged = chunks.enumerated().map { index, chunk in
            let tokens = raw[index].firstPosition..<raw[index].firstPosition + raw[index].tokenCount
            raw[index].buffer.copy(resident.layout.ids(tokens: tokens), of: slabs.slab, to: raw[index].ids.lowerBound)
            return prepare(chunk, raw[index], chosen: outcomes.map { $0.kept[index] }, of: session, resident)
        }
        noteSealed(staged, abnormalTokens: outcomes.reduce(0) { $0 + $1.abnormalTokens }, of: session, resident)
    }

    /// Chunks have been sealed, and the rows are where they belong: hands the chunks to the writers.
    func noteSealed(_ staged: [StagedChunk], abnormalTokens: Int, of session: Session, _ resident: Resident) {
        resident.positionedTokens = resident.boundary - 1
        resident.touchedRows = resident.touchedRows.map { _ in 0 }
        resident.touch(tokens: resident.tokens, grant: resident.grant)
        charge(session, resident)
        for chunk in staged {
            session.staged[chunk.number] = chunk
            session.waiting.append(chunk)
        }
        spill(session)
        metrics.chunksSealed += staged.count
        metrics.abnormalTokens += abnormalTokens
    }

    /// Makes a sealed chunk ready for the writers. `chosen` are the offsets that each piece of the layers keeps, in order.
    func prepare(_ chunk: Int, _ raw: RawChunk, chosen: [[UInt32]], of session: Session, _ resident: Resident) -> StagedChunk {
        let header = ObjectHeader.chunk(
            chunk, of: session.description, id: .random(from: entropy), parent: resident.chunkIDs.last ?? .none,
            sequence: session.files.takeSequence())
        resident.chunkIDs.append(header.id)
        return StagedChunk(
            number: chunk, raw: raw, kept: KeptOffsets(for: header, chosen),
            summaries: resident.slabs.summaries(chunk: chunk), header: header)
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

    var end: Int { first + count }
}
