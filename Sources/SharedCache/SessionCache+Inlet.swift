internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// Bringing in many tokens at once: the client writes them, chunk by chunk, into memory that becomes the staged chunks as it
/// is, so that of most tokens no copy is ever made.
extension SessionCache {
    /// Grants the next inlet.
    func inlet(_ number: UInt32, after: Int, wanted: Int, for connection: Connection) async throws(CacheError) -> Answer {
        let handle = try await enterWriting(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        defer { session.gate.leave() }
        guard wanted > after, wanted <= session.description.capacity else {
            throw CacheError(
                wanted > after ? .beyondCapacity : .badTokenCount, "the length that inlets are wanted for", seen: "\(wanted)",
                expected: "above \(after), at most \(session.description.capacity)")
        }
        let delivery = try await delivery(of: resident, after: after)

        let next = delivery.firstChunk + delivery.chunks.count
        var spans = [TokenSpan(chunk: next, policy: session.policy)]
        while spans.count < Self.chunksPerInlet(session.description), spans.last!.end < wanted {
            spans.append(TokenSpan(chunk: next + spans.count, policy: session.policy))
        }
        let sizes = spans.map { RawChunk.byteCount(geometry: session.geometry, tokenCount: $0.count) }
        let bytes = sizes.reduce(0, +)
        guard deliveryBytes == 0 || deliveryBytes + bytes <= settings.staging else {
            throw CacheError(
                .noInlet, "another inlet", seen: "\(deliveryBytes) of \(settings.staging) bytes on their way in",
                expected: "a commit of what is delivered, or tokens in the slabs")
        }
        let inlet: Inlet
        do throws(KernelError) {
            inlet = try inlets.take(byteCount: Self.inletBytes(session.description), for: connection.inletOwner)
        } catch {
            throw CacheError(.outOfResources, "shared memory for an inlet", seen: "\(error)")
        }
        let files = [try GrantedFile(inlet.memory, writable: true)]
        var offset = 0
        for (span, size) in zip(spans, sizes) {
            await add(span, in: MemorySlice(inlet, offset..<offset + size), to: delivery, of: resident)
            offset += size
        }
        return Answer(
            .inlet(
                InletGrant(
                    inlet: inlet.number, bytes: inlet.byteCount, chunk: next, chunks: spans.count, from: delivery.from,
                    until: min(session.description.capacity, spans.last!.end))),
            files: files)
    }

    /// Adds a chunk that lies in `memory`. What the window holds of it already is copied there.
    private func add(_ span: TokenSpan, in memory: MemorySlice, to delivery: Delivery, of resident: Resident) async {
        let chunk = RawChunk(geometry: resident.geometry, firstPosition: span.first, tokenCount: span.count, buffer: memory)
        delivery.add(chunk)
        deliveryBytes += chunk.byteCount
        if span.first < delivery.from { await copyRows(of: resident, tokens: span.first..<min(span.end, delivery.from), to: chunk) }
    }

    /// The delivery under way, which has come to `after`, or a new one.
    private func delivery(of resident: Resident, after: Int) async throws(CacheError) -> Delivery {
        let current = resident.currentTokens
        if let delivery = resident.delivery, delivery.from == current, delivery.until == after, delivery.tokens == nil { return delivery }
        guard after == current else {
            throw CacheError(
                .badTokenCount, "what an inlet is to continue", seen: "\(after) tokens",
                expected: "\(current), the session's length" + (resident.delivery.map { ", or \($0.until), the last inlet's end" } ?? ""))
        }
        await abandonDelivery(of: resident)
        return await beginDelivery(of: resident)
    }

    /// A delivery that holds the complete chunks of the window; with them the client has no more to do.
    private func beginDelivery(of resident: Resident) async -> Delivery {
        let current = resident.currentTokens
        let delivery = Delivery(from: current, policy: resident.policy)
        resident.delivery = delivery
        var span = TokenSpan(chunk: delivery.firstChunk, policy: resident.policy)
        while span.end <= current {
            let buffer = pool.take(byteCount: RawChunk.byteCount(geometry: resident.geometry, tokenCount: span.count))
            await add(span, in: MemorySlice(buffer), to: delivery, of: resident)
            span = TokenSpan(chunk: delivery.firstChunk + delivery.chunks.count, policy: resident.policy)
        }
        return delivery
    }

    /// Begins to score what is there of a delivery, layer by layer.
    func deliver(_ number: UInt32, tokens: Int, layers: Int, for connection: Connection) async throws(CacheError) {
        let handle = try await enterWriting(number, of: connection)
        defer { handle.session.gate.leave() }
        let delivery = try delivery(of: handle.resident, tokens: tokens)
        try CacheError.check("layers delivered", layers, in: delivery.layers...handle.resident.geometry.layers)
        try await choose(delivery, handle.session, handle.resident, tokens: tokens, layers: layers)
    }

    /// The delivery under way, of which `tokens` is the end.
    private func delivery(of resident: Resident, tokens: Int) throws(CacheError) -> Delivery {
        guard let delivery = resident.delivery, delivery.from == resident.currentTokens else {
            throw CacheError(.badTokenCount, "tokens in inlets", seen: "\(tokens), and no inlet since the last commit", expected: "an inlet first")
        }
        guard (delivery.from...delivery.until).contains(tokens), tokens == delivery.tokens ?? tokens else {
            throw CacheError(
                .badTokenCount, "tokens in inlets", seen: "\(tokens)",
                expected: delivery.tokens.map { "\($0), as before" } ?? "\(delivery.from) to \(delivery.until)")
        }
        return delivery
    }

    /// Begins to choose, in the layers that were not there yet, among the chunks that are settled when `tokens` tokens are there,
    /// and to bring what stays into the slabs. The gate is entered.
    /// - Throws: `memoryBudget` when there is no room for what stays. Nothing is begun then.
    private func choose(
        _ delivery: Delivery, _ session: Session, _ resident: Resident, tokens: Int, layers: Int
    ) async throws(CacheError) {
        let new = delivery.layers..<layers
        guard !new.isEmpty else { return }
        if delivery.tokens == nil { try await takeRows(tokens, of: session, resident) }
        let rows = delivery.rows(in: resident.slabs, tokens: tokens)
        let choice = CacheLoop.start {
            await self.inPieces(of: new.count) { piece in
                ChoiceJob(rows: rows, layers: new.lowerBound + piece.lowerBound..<new.lowerBound + piece.upperBound).run()
            }
        }
        delivery.add(choice, tokens: tokens, layers: layers)
    }

    /// Charges the session for the rows that it has with `tokens` tokens: they may be written from now on.
    private func takeRows(_ tokens: Int, of session: Session, _ resident: Resident) async throws(CacheError) {
        let bytes = resident.residentBytes(tokens: tokens, grant: tokens)
        try await reserveMemory(bytes - resident.charged, for: session)
        resident.charged = max(resident.charged, bytes)
        resident.touch(tokens: tokens, grant: tokens)
    }

    /// Makes delivered tokens part of the session, up to a length of `tokens`. The gate is entered.
    func commitDelivered(_ session: Session, _ resident: Resident, tokens: Int) async throws(CacheError) {
        let delivery = try delivery(of: resident, tokens: tokens)
        try await choose(delivery, session, resident, tokens: tokens, layers: resident.geometry.layers)
        // Whatever the answer is, from then on the rows behind the view are the client's again.
        let outcomes = await delivery.outcomes()
        try await awaitStaging(delivery.bytes, of: session)
        resident.delivery = nil
        deliveryBytes -= delivery.bytes
        let rows = delivery.rows(in: resident.slabs, tokens: tokens)
        let sealed = rows.chunks.prefix(rows.sealed)
        stagedBytes += sealed.reduce(0) { $0 + $1.byteCount }

        resident.slabs.beginChange()
        resident.tokens = tokens
        _ = await extendGrant(session, resident, tokens: tokens)
        copyIDs(delivery, resident, tokens: tokens)
        let staged = sealed.enumerated().map { index, chunk in
            prepare(rows.first + index, chunk, chosen: outcomes.map { $0.kept[index] }, of: session, resident)
        }
        let finish = SealJob.Finish(tokens: tokens, boundary: resident.boundary, touchedRows: resident.touchedRows)
        let kept = staged.map(\.kept)
        _ = await inPieces(of: resident.geometry.layers) { DeliverJob(rows: rows, layers: $0, kept: kept, finish: finish).run() }
        noteSealed(staged, abnormalTokens: outcomes.reduce(0) { $0 + $1.abnormalTokens }, of: session, resident)
    }

    private func copyIDs(_ delivery: Delivery, _ resident: Resident, tokens: Int) {
        for chunk in delivery.chunks {
            let (first, end) = (max(delivery.from, chunk.firstPosition), min(tokens, chunk.firstPosition + chunk.tokenCount))
            guard first < end else { continue }
            let ids = chunk.ids.lowerBound - 4 * chunk.firstPosition
            resident.slabs.slab.copy(
                ids + 4 * first..<ids + 4 * end, of: chunk.buffer, to: resident.layout.ids(tokens: first..<end).lowerBound)
        }
    }

    /// Forgets what was delivered and not committed, once no worker looks at it any more.
    func abandonDelivery(of resident: Resident) async {
        guard let delivery = resident.delivery else { return }
        resident.delivery = nil
        _ = await delivery.outcomes()
        deliveryBytes -= delivery.bytes
    }

    // MARK: Sizes

    /// Bytes of chunks that one inlet holds, unless one chunk is larger: small enough that a few tokens do not take much, large
    /// enough that asking for it costs nothing.
    private static let inletTarget = 36 << 20
    /// Chunks in one inlet, where they are tiny.
    private static let inletChunks = 1_024

    private static func chunksPerInlet(_ description: SessionDescription) -> Int {
        let chunk = RawChunk.byteCount(geometry: description.geometry, tokenCount: description.policy.lag)
        return max(1, min(inletChunks, inletTarget / chunk))
    }

    /// The same for all inlets of a session, so that each can be used for any of its chunks.
    private static func inletBytes(_ description: SessionDescription) -> Int {
        let tokens = description.policy.sink + chunksPerInlet(description) * description.policy.lag
        return AlignedBuffer.roundedUp(RawChunk.byteCount(geometry: description.geometry, tokenCount: tokens))
    }
}
