internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// Suspending and resuming.
extension SessionCache {
    // MARK: Suspend

    func suspend(_ reference: SessionReference, for connection: Connection) async throws(CacheError) -> SessionRow {
        let session = try find(reference, for: connection.caller)
        try requireOwner(session, connection.caller)
        await session.gate.enter()
        defer { session.gate.leave() }
        guard !session.isDeleted else { throw Self.notFound(session.name) }
        if let writer = session.writer, writer !== connection {
            throw CacheError(.sessionBusy, "suspending session “\(session.name)”", seen: "process \(writer.caller.process) holds it open for writing", expected: "no writer")
        }
        try await suspend(session)
        return row(session)
    }

    /// Makes the window durable and gives the memory back. The gate is entered. Nothing happens to a suspended session.
    /// - Throws: what keeps its tokens from becoming durable; the session stays resident then.
    func suspend(_ session: Session) async throws(CacheError) {
        guard let resident = session.resident else { return }
        await abandonDelivery(of: resident)
        try await drain(session)
        let tokens = resident.currentTokens
        try await publishWindow(session, tokens: tokens)
        retire(session, .suspended)
        session.files.letGo()
        session.writer = nil
        metrics.suspends += 1
    }

    /// Ends a session's presence in memory, if it has one.
    func retire(_ session: Session, _ state: ControlPage.State) {
        guard let resident = session.resident else { return }
        resident.retire(state, into: spares)
        session.resident = nil
        keeper?.letGo(of: session.files.manifest.id)
    }

    /// Writes the window object for a length of `tokens`, unless the disk has that length already. Everything sealed is
    /// durable. What lies on disk beyond is gone afterwards.
    func publishWindow(_ session: Session, tokens: Int) async throws(CacheError) {
        // What is on disk is always a beginning of what the session is, so equal lengths are equal tokens.
        guard session.files.tokens != tokens else { return }
        try await publish(try await unsealed(of: session, tokens: tokens), of: session, tokens: tokens)
        session.resident?.slabs.publishDurable(tokens: session.files.durableTokens)
    }

    /// Writes `window`, the unsealed tokens at a length of `tokens`: on disk the session has that length from then on.
    func publish(_ window: RawChunk, of session: Session, tokens: Int) async throws(CacheError) {
        let object = try await windowObject(window, of: session, tokens: tokens, sequence: session.files.takeSequence())
        try await makeRoom(object.byteCount, for: session)
        try await session.files.publish(window: object)
        metrics.bytesWritten += object.byteCount
    }

    /// `raw`, the unsealed tokens of the session as it would be with its first `tokens` tokens, as an object.
    func windowObject(
        _ raw: RawChunk, of session: Session, tokens: Int, sequence: UInt64
    ) async throws(CacheError) -> EncodedObject {
        let sealed = session.policy.sealedChunks(tokens: tokens)
        let parent = sealed == 0 ? ObjectID.none : try await chunkID(sealed - 1, of: session)
        let header = ObjectHeader.window(
            after: sealed, tokenCount: raw.tokenCount, of: session.description, id: .random(from: entropy), parent: parent,
            sequence: sequence)
        let scratch = scratch
        return await compute.run(.seal) { ObjectEncoder.encode(raw, kept: nil, summaries: [], header: header, scratch: scratch) }
    }

    func chunkID(_ chunk: Int, of session: Session) async throws(CacheError) -> ObjectID {
        if let resident = session.resident { return resident.chunkIDs[chunk] }
        return try await session.files.open(chunk: chunk).header.id
    }

    // MARK: Resume

    func resume(_ reference: SessionReference, for caller: Caller) async throws(CacheError) -> SessionRow {
        let session = try find(reference, for: caller)
        await session.gate.enter()
        defer { session.gate.leave() }
        guard !session.isDeleted else { throw Self.notFound(session.name) }
        _ = try await makeResident(session)
        return row(session)
    }

    /// Brings the hot view into memory, unless it is there. The gate is entered.
    func makeResident(_ session: Session) async throws(CacheError) -> Resident {
        if let resident = session.resident { return resident }
        try await session.files.prepareForWriting()
        let tokens = session.files.tokens
        let layout = try SlabLayout(session.description)
        let none = [Int](repeating: 0, count: layout.geometry.layers)
        let rows = layout.rows(tokens: tokens, grant: tokens)
        /// What it takes with files that bring memory of their own.
        func bytes(_ spare: SpareSlabs.Spare?) -> Int {
            layout.residentBytes(rows: zip(rows, spare?.rows ?? none).map(max), grant: tokens, recalled: 0)
        }
        try await reserveMemory(for: session, reusing: layout, bytes)
        let spare = spares.take(layout)
        let bytes = bytes(spare)
        transitBytes += bytes
        defer { transitBytes -= bytes }
        let resident = Resident(slabs: try await makeSlabs(layout, spare?.slabs, filledTo: tokens), tokens: tokens, touchedRows: spare?.rows ?? none)
        resident.slabs.beginChange()
        try await load(session, into: resident)
        resident.extendPositions()
        resident.publishLayout()
        resident.slabs.publishDurable(tokens: session.files.durableTokens)
        resident.charged = bytes
        session.resident = resident
        keeper?.keep(resident.slabs.slab, resident.slabs.control, of: session.files.manifest.id)
        metrics.resumes += 1
        return resident
    }

    /// Empty files: new ones, or those of a session that is gone, wiped but for the rows of `tokens` tokens: all of those are about to be
    /// written, and nobody sees them before.
    private func makeSlabs(_ layout: SlabLayout, _ old: Slabs?, filledTo tokens: Int) async throws(CacheError) -> Slabs {
        guard let old else { return try Slabs(layout: layout) }
        metrics.slabsReused += 1
        let others = layout.others(than: tokens)
        _ = await inPieces(of: others.count) { numbers in for number in numbers { old.slab.wipe(others[number]) } }
        _ = await inPieces(of: old.control.byteCount) { old.control.wipe($0) }
        return Slabs(reusing: old)
    }

    private func load(_ session: Session, into resident: Resident) async throws(CacheError) {
        let unsealed = resident.policy.firstUnsealed(tokens: resident.tokens)..<resident.tokens
        // The workers make the pages that are not there yet while the first objects are read.
        let (slabs, present) = (resident.slabs, resident.touchedRows)
        let pages = CacheLoop.start {
            _ = await self.inPieces(of: present.count) { layers in
                for layer in layers {
                    let rows = slabs.layout.policy.residentTokens(tokens: unsealed.upperBound, layer: layer)
                    if present[layer] < rows { slabs.populate(layer: layer, rows: present[layer]..<rows) }
                }
            }
        }
        // After a suspend the window object is exactly what is unsealed, and is read like a chunk, beside the others.
        let isWindow = session.files.durable.windowTokens(session.policy) == unsealed && !unsealed.isEmpty
        let window = isWindow ? try await session.files.openWindow()! : nil
        let chunks = try await loadObjects(of: session, window, into: resident)
        await pages.value
        var parent = ObjectID.none
        for header in chunks + [window?.header].compactMap(\.self) {
            guard header.parent == parent else {
                throw CacheError(
                    .corrupt, "the object after chunk \(header.chunk - 1) of session “\(session.name)”",
                    seen: "an object of another history", expected: "its successor")
            }
            parent = header.id
        }
        resident.chunkIDs = chunks.map(\.id)
        guard window == nil, !unsealed.isEmpty else { return }
        let unwritten = try await self.unsealed(of: session, tokens: resident.tokens)
        await place(unwritten, in: resident, tokens: 0..<unwritten.tokenCount)
    }

    /// What resuming reads at a time: the kept part of some layers of an object.
    private struct Part: Sendable {
        let object: StoredObject
        let layers: Range<Int>

        var range: Range<Int> { object.index.keptRange(layers: layers) }
    }

    /// Brings the kept parts of all sealed chunks and of `window` into their rows.
    /// - Returns: the chunks' headers.
    private func loadObjects(
        of session: Session, _ window: StoredObject?, into resident: Resident
    ) async throws(CacheError) -> ArraySlice<ObjectHeader> {
        let (layers, chunks) = (session.geometry.layers, resident.sealedChunks)
        let chunkBytes = StoredObject.keptBytesGuess(session.description)
        // The window comes first, in parts about as large as chunks, so that the workers share it.
        let parts = window.map { Self.parts(of: $0, about: chunkBytes) } ?? []
        guard parts.count + chunks > 0 else { return [] }
        let placeBytes = parts.reduce(chunkBytes) { max($0, $1.object.bytesToRead($1.range)) }
        let room = settings.memoryBudget - chargedMemory()
        let reads = ReadRing<(part: Part, kept: FileBytes)>(
            count: parts.count + chunks, placeBytes: placeBytes, byteLimit: min(settings.readAhead, max(Self.readingBytes, room)),
            pool)
        let charged = min(reads.byteCount, max(0, room))
        transitBytes += charged
        defer { transitBytes -= charged }
        reads.begin { number, _, place throws(CacheError) in
            if number < parts.count {
                let part = parts[number]
                return (part, try await part.object.read(part.range, into: place))
            }
            let (object, kept) = try await session.files.openWithKept(chunk: number - parts.count, into: place)
            return (Part(object: object, layers: 0..<layers), kept)
        }
        do throws(CacheError) {
            let headers = try await concurrently(parts.count + chunks) { number throws(CacheError) in
                defer { reads.letGo(number) }
                let (part, kept) = try await reads.item(number)[0]
                return try await self.fill(resident.slabs, from: part, kept)
            }
            return headers.dropFirst(parts.count)
        } catch {
            await reads.end()
            throw error
        }
    }

    /// An object in runs of layers whose kept parts take about `byteCount` bytes each.
    private static func parts(of object: StoredObject, about byteCount: Int) -> [Part] {
        let layers = object.header.geometry.layers
        let count = max(1, min(layers, object.index.keptRange.count / byteCount))
        return (0..<count).map { Part(object: object, layers: layers * $0 / count..<layers * ($0 + 1) / count) }
    }

    /// Decodes a part into its rows.
    private func fill(_ slabs: Slabs, from part: Part, _ kept: FileBytes) async throws(CacheError) -> ObjectHeader {
        metrics.bytesRead += kept.range.count
        let (index, scratch) = (part.object.index, scratch)
        try await run { () throws(CacheError) in try slabs.fill(from: index, layers: part.layers, kept: kept, scratch) }
        return index.header
    }

    /// Puts unsealed tokens into their rows, with their ids. `tokens` counts from the chunk's first.
    func place(_ chunk: RawChunk, in resident: Resident, tokens: Range<Int>) async {
        guard !tokens.isEmpty else { return }
        let slabs = resident.slabs
        let first = chunk.firstPosition + tokens.lowerBound
        let sealed = resident.sealedChunks
        _ = await inPieces(of: resident.geometry.layers) { layers in
            for layer in layers {
                let row = first - sealed * slabs.layout.policy.evicted(inLayer: layer)
                for head in 0..<slabs.layout.geometry.heads {
                    slabs.copy(from: chunk, tokens: tokens, layer: layer, head: head, toRow: row)
                }
            }
        }
        slabs.slab.copy(
            chunk.ids.lowerBound + 4 * tokens.lowerBound..<chunk.ids.lowerBound + 4 * tokens.upperBound, of: chunk.buffer,
            to: slabs.layout.ids(tokens: first..<first).lowerBound)
    }

    /// Runs `body` on a worker, and throws what it throws.
    func run<Value: Sendable>(_ body: @escaping @Sendable () throws(CacheError) -> Value) async throws(CacheError) -> Value {
        try await compute.run(.seal) { Result { () throws(CacheError) in try body() } }.get()
    }

    /// Runs `body` for 0 ..< `count`, a few at a time, and returns the results in order.
    /// - Throws: the first error, once all that were begun have ended.
    func concurrently<Value: Sendable>(
        _ count: Int, _ body: @escaping @CacheLoop (Int) async throws(CacheError) -> Value
    ) async throws(CacheError) -> [Value] {
        let progress = Progress<Value>(count: count)
        let runners = (0..<min(count, Self.readsInFlight)).map { _ in
            CacheLoop.start {
                while let index = progress.take() {
                    do throws(CacheError) {
                        progress.values[index] = try await body(index)
                    } catch {
                        progress.fail(error)
                    }
                }
            }
        }
        for runner in runners { await runner.value }
        if let error = progress.error { throw error }
        return progress.values.map { $0! }
    }

    /// Objects of one request that are read at a time: enough to keep a disk busy while the workers decode.
    private static let readsInFlight = 16

    /// How far `concurrently` is.
    @CacheLoop
    private final class Progress<Value> {
        var values: [Value?]
        private(set) var error: CacheError?
        private var next = 0

        init(count: Int) {
            values = Array(repeating: nil, count: count)
        }

        /// The next thing to do; nil when all are taken, or one has failed.
        func take() -> Int? {
            guard error == nil, next < values.count else { return nil }
            defer { next += 1 }
            return next
        }

        func fail(_ error: CacheError) { self.error = self.error ?? error }
    }
}
