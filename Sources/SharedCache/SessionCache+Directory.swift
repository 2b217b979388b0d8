internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import WireProtocol

/// Naming, removing and listing sessions.
extension SessionCache {
    func rename(_ name: SessionName, to newName: SessionName, for caller: Caller) async throws(CacheError) {
        let session = try find(SessionReference(name), for: caller)
        let key = SessionKey(owner: session.owner, name: newName)
        await session.gate.enter()
        defer { session.gate.leave() }
        guard !session.isDeleted else { throw Self.notFound(name) }
        guard sessions[key] == nil, namesBeingMade.insert(key).inserted else {
            throw CacheError(.alreadyExists, "a session", seen: "“\(newName)”", expected: "a name that is not taken")
        }
        defer { namesBeingMade.remove(key) }
        // A chunk on its way would be named in a directory that is no longer there.
        try await drain(session)
        try await store.rename(session.files, owner: session.owner, to: newName)
        sessions[SessionKey(owner: session.owner, name: session.name)] = nil
        session.name = newName
        sessions[key] = session
    }

    func delete(_ reference: SessionReference, for caller: Caller) async throws(CacheError) {
        let session = try find(reference, for: caller)
        try requireOwner(session, caller)
        await session.gate.enter()
        defer { session.gate.leave() }
        guard !session.isDeleted else { throw Self.notFound(reference.name) }
        if let writer = session.writer {
            throw CacheError(
                .sessionBusy, "deleting session “\(session.name)”", seen: "process \(writer.caller.process) holds it open for writing",
                expected: "no writer")
        }
        try await remove(session)
    }

    /// Removes a session from disk and memory. Nobody else is at its gate, or whoever is will find it deleted.
    func remove(_ session: Session) async throws(CacheError) {
        session.isLeaving = true
        defer { session.isLeaving = false }
        let held = session.files.bytes
        try await store.discard(session.files, owner: session.owner)
        session.isDeleted = true
        // Chunks on their way notice, and are dropped. Not earlier: they are needed where the disk refuses the deletion.
        session.diskChanged.fire()
        while session.spillsInFlight > 0 { await session.spillChanged.wait() }
        await store.destroy(session.files)
        if let resident = session.resident { await abandonDelivery(of: resident) }
        retire(session, .deleted)
        sessions[SessionKey(owner: session.owner, name: session.name)] = nil
        metrics.sessionsDeleted += 1
        if held > 0 { retryWrites() }
    }

    // MARK: Listing

    func row(_ session: Session) -> SessionRow {
        let tokens = session.tokens
        return SessionRow(
            name: session.name, owner: session.owner, state: session.resident == nil ? .suspended : .resident,
            description: session.description, tokens: tokens, sealedChunks: session.policy.sealedChunks(tokens: tokens),
            durableTokens: session.files.durableTokens, residentBytes: session.resident?.charged ?? 0, diskBytes: session.files.bytes,
            writer: session.writer?.caller.process ?? 0, readers: UInt32(session.readers), lastUsed: session.lastUsed,
            created: session.files.manifest.createdMilliseconds, fault: session.fault.map { "\($0)" } ?? "")
    }

    func list(everybody: Bool, after: SessionReference?, for caller: Caller) -> Reply {
        let from = after.map { reference -> SessionKey in
            switch reference.owner {
            case .own: SessionKey(owner: caller.user, name: reference.name)
            case .user(let user): SessionKey(owner: user, name: reference.name)
            }
        }
        let visible = sessions.filter { key, session in
            (session.owner == caller.user || everybody && maySee(session, caller)) && (from.map { $0 < key } ?? true)
        }
        let page = visible.keys.sorted().prefix(Limits.rowsPerPage)
        return .rows(page.map { row(sessions[$0]!) }, more: page.count < visible.count)
    }

    func status() -> [StatusEntry] {
        let resident = sessions.values.count { $0.resident != nil }
        return [
            StatusEntry("sessions", "\(sessions.count)"),
            StatusEntry("sessions_resident", "\(resident)"),
            StatusEntry("sessions_suspended", "\(sessions.count - resident)"),
            StatusEntry("writers", "\(sessions.values.count { $0.writer != nil })"),
            StatusEntry("memory_bytes", "\(chargedMemory())"),
            StatusEntry("memory_allocated_bytes", "\(allocatedMemory())"),
            StatusEntry("memory_spare_bytes", "\(spares.bytes)"),
            StatusEntry("memory_budget_bytes", "\(settings.memoryBudget)"),
            StatusEntry("disk_bytes", "\(store.usedBytes)"),
            StatusEntry("disk_budget_bytes", settings.diskBudget.map { "\($0)" } ?? "unlimited"),
            StatusEntry("staged_bytes", "\(stagedBytes)"),
            StatusEntry("delivery_bytes", "\(deliveryBytes)"),
            StatusEntry("staging_bytes", "\(settings.staging)"),
            StatusEntry("sessions_with_a_fault", "\(sessions.values.count { $0.fault != nil })"),
        ]
    }
}

extension SessionCache.SessionKey: Comparable {
    static func < (left: Self, right: Self) -> Bool { (left.owner, left.name) < (right.owner, right.name) }
}
