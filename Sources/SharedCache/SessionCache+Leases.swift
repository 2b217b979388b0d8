internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import WireProtocol

/// Creating, opening and letting go.
extension SessionCache {
    func create(_ name: SessionName, _ description: SessionDescription, for connection: Connection) async throws(CacheError) -> Answer {
        let caller = connection.caller
        let session = try await register(name, description, owner: caller.user) { manifest throws(CacheError) in
            try await self.store.create(owner: caller.user, name: name, manifest)
        }
        await session.gate.enter()
        defer { session.gate.leave() }
        do throws(CacheError) {
            _ = try await makeResident(session)
            return try await attach(session, write: true, to: connection)
        } catch {
            // A request that fails has changed nothing: what was made goes again.
            try? await remove(session)
            throw error
        }
    }

    /// Makes a session known once `make` has made it durable; its name is taken meanwhile.
    func register(
        _ name: SessionName, _ description: SessionDescription, owner: UInt32,
        make: (Manifest) async throws(CacheError) -> SessionFiles
    ) async throws(CacheError) -> Session {
        let key = SessionKey(owner: owner, name: name)
        guard sessions[key] == nil, namesBeingMade.insert(key).inserted else {
            throw CacheError(.alreadyExists, "a session", seen: "“\(name)”", expected: "a name that is not taken")
        }
        defer { namesBeingMade.remove(key) }
        _ = try SlabLayout(description)
        let count = sessions.keys.count { $0.owner == owner }
        try CacheError.check("sessions of one user", count + 1, in: 1...Limits.sessionsPerUser)
        let manifest = Manifest(
            id: .random(from: entropy), description: description, createdMilliseconds: clock.wallMilliseconds, owner: owner)
        let session = Session(owner: owner, name: name, files: try await make(manifest), lastUsed: clock.wallMilliseconds)
        sessions[key] = session
        metrics.sessionsCreated += 1
        return session
    }

    func open(
        _ reference: SessionReference, write: Bool, fingerprint: String?, for connection: Connection
    ) async throws(CacheError) -> Answer {
        let session = try find(reference, for: connection.caller)
        let name = reference.name
        if write { try requireOwner(session, connection.caller) }
        if let fingerprint, fingerprint != session.description.fingerprint {
            throw CacheError(
                .mismatch, "the fingerprint of session “\(name)”", seen: "“\(session.description.fingerprint)”", expected: "“\(fingerprint)”")
        }
        await session.gate.enter()
        defer { session.gate.leave() }
        guard !session.isDeleted else { throw Self.notFound(name) }
        if write, let writer = session.writer {
            throw CacheError(.writerBusy, "the lease of session “\(name)”", seen: "held by process \(writer.caller.process)", expected: "no writer")
        }
        _ = try await makeResident(session)
        return try await attach(session, write: write, to: connection)
    }

    /// Gives a resident session to a connection. The gate is entered.
    private func attach(_ session: Session, write: Bool, to connection: Connection) async throws(CacheError) -> Answer {
        let resident = session.resident!
        if write {
            _ = await extendGrant(session, resident, tokens: resident.tokens)
            resident.slabs.beginChange()
            resident.extendPositions()
            resident.publishLayout()
        }
        let files = [try GrantedFile(resident.slabs.slab, writable: write), try GrantedFile(resident.slabs.control, writable: false)]
        let number = try connection.add(Connection.Handle(session: session, resident: resident, isWriter: write))
        if write { session.writer = connection } else { session.readers += 1 }
        session.lastUsed = clock.wallMilliseconds
        metrics.attaches += 1
        let attachment = Attachment(
            handle: number, isWriter: write, row: row(session), layout: resident.layout.wire, generation: resident.slabs.generation)
        return Answer(.attachment(attachment), files: files)
    }

    /// Ends one handle. A writer's published tokens are kept; what it recalled, and room it was granted, is given back.
    func end(_ handle: Connection.Handle, of connection: Connection) async {
        let session = handle.session
        await session.gate.enter()
        defer { session.gate.leave() }
        session.lastUsed = clock.wallMilliseconds
        guard handle.isWriter else {
            session.readers -= 1
            return
        }
        // A handle from before a suspend ends nothing: the lease may have been taken again since.
        guard session.writer === connection, let resident = session.resident, resident === handle.resident else { return }
        session.writer = nil
        await abandonDelivery(of: resident)
        let tokens = resident.currentTokens
        resident.slabs.beginChange()
        resident.tokens = tokens
        releaseRecalled(resident)
        resident.grant = tokens
        resident.publishLayout()
        for layer in 0..<resident.geometry.layers {
            resident.slabs.discard(
                layer: layer, rows: resident.policy.residentTokens(tokens: tokens, layer: layer)..<resident.layout.wire.rows)
        }
        resident.touchedRows = resident.touchedRows.map { _ in 0 }
        charge(session, resident)
    }

    // MARK: Room

    /// Grants the writer room for more tokens, as far as the memory budget allows; idle sessions are suspended for it.
    /// - Returns: what refused more room; nil when there is some, or when the session is full.
    func extendGrant(_ session: Session, _ resident: Resident, tokens: Int) async -> CacheError? {
        let capacity = session.description.capacity
        let seal = min(capacity, resident.policy.nextSeal(after: tokens))
        let piece = Self.pieceBytes / resident.geometry.tokenBytes / resident.policy.lag * resident.policy.lag
        var refusal: CacheError?
        for grant in [max(seal, min(capacity, tokens + piece)), seal] {
            let bytes = resident.residentBytes(tokens: tokens, grant: grant)
            do throws(CacheError) {
                try await reserveMemory(bytes - resident.charged, for: session)
            } catch {
                refusal = error
                continue
            }
            resident.charged = bytes
            resident.grant = grant
            resident.touch(tokens: resident.tokens, grant: resident.grant)
            return nil
        }
        resident.grant = tokens
        return refusal
    }

    /// Bytes of tokens that one commit may bring: enough that messages cost nothing, little enough to stay in a cache and
    /// in the staging room.
    static let pieceBytes = 32 << 20
}
