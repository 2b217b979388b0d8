internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// From sealed to durable: chunks are coded on workers and written, a few of each session at a time, so that a session with
/// many does not keep the others waiting.
extension SessionCache {
    /// Chunks of one session that are coded or written at a time.
    private static let spillsPerSession = 3
    /// Milliseconds before a write that the disk refused is tried again: doubled each time up to the longest.
    private static let firstRetry: UInt64 = 100
    private static let longestRetry: UInt64 = 5_000

    /// Starts as many of the session's waiting chunks as it may have under way.
    func spill(_ session: Session) {
        while session.spillsInFlight < Self.spillsPerSession, !session.waiting.isEmpty {
            let next = session.waiting.removeFirst()
            session.spillsInFlight += 1
            CacheLoop.start {
                await makeDurable(next, of: session)
                session.staged[next.number] = nil
                session.spillsInFlight -= 1
                stagedBytes -= next.byteCount
                spill(session)
                session.spillChanged.fire()
                stagingChanged.fire()
            }
        }
    }

    private func makeDurable(_ chunk: StagedChunk, of session: Session) async {
        let (scratch, pool) = (scratch, pool)
        let object = await compute.run(.spill) {
            ObjectEncoder.encode(
                chunk.raw, kept: chunk.kept, summaries: chunk.summaries, header: chunk.header, scratch: scratch,
                into: pool.take(byteCount: ObjectEncoder.byteBound(for: chunk.header)))
        }
        // Coded side by side, named in order: what is on disk is a beginning of the session at every moment.
        while session.staged[chunk.number - 1] != nil { await session.spillChanged.wait() }
        var pause = Self.firstRetry
        while !session.isDeleted {
            do throws(CacheError) {
                try await makeRoom(object.byteCount, for: session)
                try await session.files.publish(chunk: chunk.number, object)
                return noteDurable(chunk, object, of: session)
            } catch {
                if !session.isLeaving { report(error, of: session) }
                await pauseWriting(session, milliseconds: pause)
                pause = min(2 * pause, Self.longestRetry)
            }
        }
    }

    /// Waits so long, or until the disk may have room.
    private func pauseWriting(_ session: Session, milliseconds: UInt64) async {
        CacheLoop.start {
            await clock.sleep(milliseconds: milliseconds)
            session.diskChanged.fire()
        }
        await session.diskChanged.wait()
    }

    /// The disk may have room now: what waits for it is tried at once, and who asks meanwhile waits for what comes of it.
    func retryWrites() {
        for session in sessions.values {
            session.fault = nil
            session.diskChanged.fire()
        }
    }

    private func noteDurable(_ chunk: StagedChunk, _ object: EncodedObject, of session: Session) {
        metrics.chunksSpilled += 1
        metrics.bytesSpilled += chunk.raw.tokenCount * session.geometry.tokenBytes
        metrics.bytesWritten += object.byteCount
        session.fault = nil
        session.resident?.slabs.publishDurable(tokens: session.files.durableTokens)
    }

    /// The chunk stays in memory, and answers from there; who waits for the disk is told.
    private func report(_ error: CacheError, of session: Session) {
        if session.fault == nil { note(.error, "session “\(session.name)”: \(error); its chunks wait in memory") }
        metrics.diskRefusals += 1
        session.fault = error
        session.spillChanged.fire()
        stagingChanged.fire()
    }

    /// Waits until every sealed chunk of the session is on disk.
    /// - Throws: why not, as soon as the disk has refused one.
    func drain(_ session: Session) async throws(CacheError) {
        while !session.staged.isEmpty {
            if let fault = session.fault { throw fault }
            await session.spillChanged.wait()
        }
        try await session.files.settle()
    }

    /// Makes room on disk for one object, by deleting suspended sessions that are marked disposable, least recently used first.
    /// - Throws: `diskBudget` when there are none.
    func makeRoom(_ bytes: Int, for session: Session) async throws(CacheError) {
        while let (used, budget, owner) = diskShortage(of: bytes, for: session.owner) {
            let victim = sessions.values
                .filter { $0.description.isDisposable && $0.resident == nil && $0.gate.isOpen && $0 !== session && (owner == nil || $0.owner == owner) }
                .min { ($0.lastUsed, $0.name) < ($1.lastUsed, $1.name) }
            guard let victim else {
                throw CacheError(
                    .diskBudget, "room for an object of \(bytes) bytes", seen: "\(used) of \(budget) bytes in use",
                    expected: "a larger disk budget, or fewer sessions")
            }
            note(.notice, "session “\(victim.name)”, disposable, is deleted: the disk budget is full")
            metrics.disposed += 1
            // Open, so this does not wait.
            await victim.gate.enter()
            defer { victim.gate.leave() }
            try await remove(victim)
        }
    }

    private func diskShortage(of bytes: Int, for owner: UInt32) -> (used: Int, budget: Int, owner: UInt32?)? {
        if let budget = settings.diskBudget, store.usedBytes + bytes > budget { return (store.usedBytes, budget, nil) }
        guard let budget = settings.diskBudgetPerUser else { return nil }
        let used = sessions.values.reduce(0) { $1.owner == owner ? $0 + $1.files.bytes : $0 }
        return used + bytes > budget ? (used, budget, owner) : nil
    }

    // MARK: On demand

    func sync(_ number: UInt32, window: Bool, for connection: Connection) async throws(CacheError) -> Standing {
        let handle = try await enter(number, of: connection)
        let (session, resident) = (handle.session, handle.resident)
        defer { session.gate.leave() }
        try await drain(session)
        if window { try await publishWindow(session, tokens: resident.currentTokens) }
        return standing(session, resident)
    }
}
