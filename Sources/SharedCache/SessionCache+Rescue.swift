internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import WireProtocol

/// After a crash: what an earlier daemon had in memory and not on disk, from the files that the service manager kept.
///
/// Sealed chunks are on disk, so that no more than the window is missing, and a crash ends as a stop would have: every window becomes
/// durable, and the sessions are suspended.
extension SessionCache {
    func rescue(from kept: [KeptSlabs]) async {
        guard !kept.isEmpty else { return }
        // As when the daemon stops: a disk budget refuses new tokens, not those that were accepted.
        let configured = settings
        settings.diskBudget = nil
        settings.diskBudgetPerUser = nil
        defer { settings = configured }
        let byID = Dictionary(sessions.values.map { ($0.files.manifest.id, $0) }) { first, _ in first }
        for slabs in kept {
            guard let session = byID[slabs.id] else {
                keeper?.letGo(of: slabs.id)
                continue
            }
            do throws(CacheError) {
                try await rescue(session, from: slabs)
                keeper?.letGo(of: slabs.id)
            } catch {
                // Not served, so that nobody goes on without its newest tokens; they stay where they are.
                sessions[SessionKey(owner: session.owner, name: session.name)] = nil
                note(.error, "session “\(session.name)”, left alone until the next start: its newest tokens cannot be written: \(error)")
            }
        }
    }

    /// Makes the window durable that lies in `kept`.
    /// - Throws: what keeps it from becoming durable.
    private func rescue(_ session: Session, from kept: KeptSlabs) async throws(CacheError) {
        let layout: SlabLayout
        let window: Range<Int>
        do throws(CacheError) {
            layout = try SlabLayout(session.description)
            guard let unsealed = try kept.unsealed(layout), unsealed.upperBound > session.files.tokens else { return }
            try await requireSealed(before: unsealed, in: kept, of: session)
            window = unsealed
        } catch {
            return note(.warning, "session “\(session.name)” comes back with the \(session.files.tokens) tokens on disk: \(error)")
        }
        let before = session.files.tokens
        try await session.files.prepareForWriting()
        let raw = RawChunk(geometry: session.geometry, firstPosition: window.lowerBound, tokenCount: window.count, pool)
        await copyRows(of: kept.slab, layout, sealed: session.policy.sealedChunks(tokens: window.upperBound), tokens: window, to: raw)
        try await publish(raw, of: session, tokens: window.upperBound)
        metrics.tokensRescued += window.upperBound - before
        note(.notice, "session “\(session.name)”: \(window.upperBound - before) tokens that were only in memory are on disk now")
    }

    /// - Throws: `corrupt` unless every chunk that was sealed before the window is on disk: those that were on their way are gone. There
    /// may be more of them, or others of the same number, from before a truncation.
    private func requireSealed(before window: Range<Int>, in kept: KeptSlabs, of session: Session) async throws(CacheError) {
        let (sealed, durable) = (session.policy.sealedChunks(tokens: window.upperBound), session.files.durable.chunks.count)
        guard sealed <= durable else {
            throw CacheError(.corrupt, "the chunks before the window", seen: "\(durable) on disk", expected: "the \(sealed) that were sealed")
        }
        guard sealed > 0 else { return }
        // Each object names the one before it.
        let last = try await session.files.open(chunk: sealed - 1).header.id
        guard last == kept.lastChunk else {
            throw CacheError(.corrupt, "chunk \(sealed - 1), before the window", seen: "object \(last)", expected: "object \(kept.lastChunk)")
        }
    }
}
