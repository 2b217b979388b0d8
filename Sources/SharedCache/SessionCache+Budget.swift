internal import CacheLoop
internal import CacheModel
internal import LinuxKit

/// The memory budget. Invariant: the bytes charged to all sessions never exceed it by more than what is reserved here, and a
/// reservation that does not fit is refused, never overdrawn.
extension SessionCache {
    /// Bytes charged to resident sessions, of one user or of all, what transfers under way have reserved, and spare files.
    func chargedMemory(of owner: UInt32? = nil) -> Int {
        sessions.values.reduce(owner == nil ? transitBytes + spares.bytes : 0) { sum, session in
            owner == nil || session.owner == owner ? sum + (session.resident?.charged ?? 0) : sum
        }
    }

    /// Bytes of slabs as the kernel counts them. More than what is charged: a client has touched what it was not granted.
    func allocatedMemory() -> Int {
        sessions.values.reduce(0) { $0 + ((try? $1.resident?.slabs.slab.allocatedBytes) ?? 0) }
    }

    /// Sets what a session is charged to what it takes.
    func charge(_ session: Session, _ resident: Resident) {
        resident.charged = resident.residentBytes(tokens: resident.tokens, grant: resident.grant)
    }

    /// Makes room for `bytes` more of `session`, whose gate is entered: spare files go first, then idle sessions are suspended,
    /// least recently used first.
    /// - Throws: `memoryBudget` when nothing idle is left. Nothing is reserved: the caller charges it before it next waits.
    func reserveMemory(_ bytes: Int, for session: Session) async throws(CacheError) {
        guard bytes > 0 else { return }
        try await reserveMemory(for: session, reusing: nil) { _ in bytes }
    }

    /// As the other one, for a caller that will take a spare of a layout if there is one.
    /// - Parameter need: bytes that the session takes with that spare, its own among them, or with none.
    func reserveMemory(
        for session: Session, reusing layout: SlabLayout?, _ need: (SpareSlabs.Spare?) -> Int
    ) async throws(CacheError) {
        while true {
            let spare = layout.flatMap(spares.find)
            let bytes = need(spare)
            guard let shortage = shortage(of: bytes, besides: spare?.bytes ?? 0, for: session.owner) else { return }
            if spares.dropOldest(sparing: layout) { continue }
            if await suspendLeastRecentlyUsed(of: shortage.owner, except: session) { continue }
            // The spare that the caller would take may hold more than the caller needs.
            guard spares.dropOldest(sparing: nil) else {
                throw CacheError(
                    .memoryBudget, "\(bytes) more bytes of memory for session “\(session.name)”",
                    seen: "\(shortage.used) of \(shortage.budget) bytes in use" + (shortage.owner == nil ? "" : " by this user"),
                    expected: "a larger memory budget, or sessions that nobody holds open for writing")
            }
        }
    }

    private struct Shortage {
        var owner: UInt32?
        var used: Int
        var budget: Int
    }

    /// - Parameter spare: bytes of a spare that are among `bytes`; no user is charged for spares.
    private func shortage(of bytes: Int, besides spare: Int, for owner: UInt32) -> Shortage? {
        let used = chargedMemory() - spare
        if used + bytes > settings.memoryBudget { return Shortage(owner: nil, used: used, budget: settings.memoryBudget) }
        guard let budget = settings.memoryBudgetPerUser else { return nil }
        let ofUser = chargedMemory(of: owner)
        return ofUser + bytes > budget ? Shortage(owner: owner, used: ofUser, budget: budget) : nil
    }

    /// - Returns: whether one could be suspended.
    private func suspendLeastRecentlyUsed(of owner: UInt32?, except: Session) async -> Bool {
        let candidates = sessions.values
            .filter { $0.isIdle && $0 !== except && (owner == nil || $0.owner == owner) }
            .sorted { ($0.lastUsed, $0.name) < ($1.lastUsed, $1.name) }
        for session in candidates {
            // Its gate is open and we do not wait before it is ours, so this cannot wait for somebody who waits for us.
            guard session.isIdle else { continue }
            await session.gate.enter()
            defer { session.gate.leave() }
            do throws(CacheError) {
                try await suspend(session)
                metrics.suspendedUnderPressure += 1
                return true
            } catch {
                note(.warning, "session “\(session.name)” could not be suspended under pressure: \(error)")
            }
        }
        return false
    }
}
