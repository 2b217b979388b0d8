internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import WireProtocol

/// After a crash: what an earlier daemon had in memory and not on disk, from the files that the service manager kept.
///
/// Where all sealed chunks are on disk, no more than the window is missing, and a crash ends as a stop would have: the window becomes
/// durable, and the session is suspended.
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
        let layout = try SlabLayout(session.description)
        let before = session.files.tokens
        switch try await content(of: kept, layout, session) {
        case .nothing: break
        case .unusable(let reason):
            note(.warning, "session “\(session.name)” comes back with the \(before) tokens that were durable: \(reason)")
        case .window(let tokens):
            try await session.files.prepareForWriting()
            let window = RawChunk(geometry: session.geometry, firstPosition: tokens.lowerBound, tokenCount: tokens.count, pool)
            let sealed = session.policy.sealedChunks(tokens: tokens.upperBound)
            await copyRows(of: kept.slab, layout, sealed: sealed, tokens: tokens, to: window)
            try await publish(window, of: session, tokens: tokens.upperBound)
            metrics.tokensRescued += tokens.upperBound - before
            note(.notice, "session “\(session.name)”: \(tokens.upperBound - before) tokens that were only in memory are on disk now")
        }
    }

    /// What there is to be found in `kept` for the session as it is on disk.
    private func content(of kept: KeptSlabs, _ layout: SlabLayout, _ session: Session) async throws(CacheError) -> KeptSlabs.Content {
        let content = kept.content(layout)
        guard case .window(let tokens) = content else { return content }
        guard tokens.upperBound > session.files.tokens else { return .nothing }
        let (sealed, durable) = (session.policy.sealedChunks(tokens: tokens.upperBound), session.files.durable.chunks.count)
        guard sealed <= durable else { return .unusable("of \(sealed) sealed chunks \(sealed - durable) were on their way to the disk") }
        // There may be others of the same numbers, from before a truncation. Each names the one before it.
        if sealed > 0, try await session.files.open(chunk: sealed - 1).header.id != kept.lastChunk {
            return .unusable("the last sealed chunk was on its way to the disk")
        }
        return .window(tokens)
    }
}
