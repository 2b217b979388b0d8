import CacheLoop
import CacheModel
import LinuxKit
import SharedCache
import WireProtocol

/// What a client may think of.
extension SimulatedClient {
    func act() async {
        let mine = held.filter { !$0.isInvalid }
        guard let session = mine.randomElement(using: &world.numbers), !world.numbers.once(in: 5) else {
            return await actByName()
        }
        if session.isWriter, world.numbers.once(in: 2) { return await append(session) }
        switch world.numbers.number(in: 0...16) {
        case 0...3: await look(session)
        case 4...5: await checkFull(session, layer: world.numbers.number(in: 0...session.model.geometry.layers - 1))
        case 6: beside { await self.checkFull(session, layer: 0, isBeside: true) }
        case 7: await sync(session, window: world.numbers.once(in: 2))
        case 8: beside { await self.sync(session, window: true, isBeside: true) }
        case 9: await close(session)
        case 10: if session.isWriter { await truncate(session) }
        case 11...12: if session.isWriter { await recall(session) }
        case 13: if session.isWriter { await release(session) }
        case 14: await ask(badly: session)
        case 15: await readThrough(session, isInterrupted: true)
        default: await actByName()
        }
    }

    private func actByName() async {
        let name = anyName()
        let known = simulation.sessions.keys.filter { $0.owner == user }.sorted()
        let session = known.isEmpty ? nil : simulation.sessions[world.numbers.pick(known)]
        switch world.numbers.number(in: 0...19) {
        case 0...3: await create(name)
        case 4...9: if let session { _ = await open(session, write: world.numbers.number(in: 0...3) > 0) }
        case 10...11: if let session { await fork(session, as: name) }
        case 12: if let session { await rename(session, to: name) }
        case 13: if let session { await delete(session) }
        case 14...15: if let session { await suspend(session) }
        case 16: if let session { await resume(session) }
        case 17: if let session { await show(session) }
        case 18: await listMine()
        default: if world.numbers.once(in: 2) { await die() } else { await reachForOthers() }
        }
    }

    private func anyName() -> SessionName { Self.names[world.numbers.number(in: 0...Self.names.count - 1)] }

    private static let names = ["a", "b.1", "c-2", "d@x", "e"].map { name in
        guard let name = try? SessionName(name) else { preconditionFailure(name) }
        return name
    }

    /// Errors that others at work can bring about.
    func among(_ codes: Set<ErrorCode>) -> Set<ErrorCode> { isAlone ? [] : codes }

    /// For a session that is looked for by name.
    func looking(for session: SessionModel) -> Set<ErrorCode> {
        among([.notFound]).union(simulation.mayVanish(session) ? [.notFound] : [])
    }

    /// For a handle that others may have made useless. Nobody takes a writer's away but itself, by what it asks meanwhile.
    func using(_ session: HeldSession, isBeside: Bool = false) -> Set<ErrorCode> {
        guard !session.isWriter else { return isBeside ? [.badHandle] : [] }
        var codes: Set<ErrorCode> = among([.badHandle])
        if plan.isMemoryTight || plan.isDiskTight || plan.settings.idleSuspendMilliseconds != nil { codes.insert(.badHandle) }
        return codes
    }

    func note(_ session: HeldSession, _ error: ErrorCode?) { if error == .badHandle { session.isInvalid = true } }

    // MARK: Reading

    private func look(_ session: HeldSession) async {
        simulation.countOperation()
        let wrong = await session.checkView {
            if !session.isWriter, self.world.numbers.once(in: 3) { await self.world.turn(of: self.process.life) }
        }
        if let wrong, !isOver { world.fail(wrong) }
    }

    /// One layer after the other, as an engine brings a session back.
    /// - Parameter isInterrupted: others may do something between, and this client as well.
    func readThrough(_ session: HeldSession, isInterrupted: Bool = false) async {
        let again = world.numbers.number(in: 0...3) > 0
        for layer in 0..<session.model.geometry.layers where !session.isInvalid && !isOver {
            if isInterrupted, world.numbers.once(in: 3) { await world.turn(of: process.life, delay: world.numbers.number(in: 0...20)) }
            if isInterrupted, session.isWriter, world.numbers.once(in: 8) { await append(session) }
            // Appending is when clients die.
            guard held.contains(where: { $0 === session }), !isOver else { return }
            await checkFull(session, layer: layer, again: again)
        }
    }

    func checkFull(_ session: HeldSession, layer: Int, again: Bool? = nil, isBeside: Bool = false) async {
        let model = session.model
        let (least, versions) = (model.tokens.count, model.past.count)
        let (answer, error) = await attempt(
            .full(handle: session.handle, layer: layer, again: again ?? world.numbers.once(in: 2)),
            allowing: using(session, isBeside: isBeside))
        note(session, error)
        guard let answer, case .full(let full) = answer.reply else { return }
        let candidates = model.past[versions...] + [model.visible]
        let faults = candidates.map { mismatch($0, answer.files[0], full, layer, model.geometry) }
        if !faults.contains(nil) {
            world.fail("\(model.name): the full view of layer \(layer) at \(full.tokens) tokens: \(faults.last!!)")
        }
        if full.tokens < least, candidates.count == 1 {
            world.fail("\(model.name): a full view of \(full.tokens) tokens of \(least)")
        }
    }

    /// The first thing in a full view that is not as it must be.
    private func mismatch(_ tokens: [Token], _ file: GrantedFile, _ full: FullLayout, _ layer: Int, _ geometry: Geometry)
        -> String?
    {
        guard full.tokens <= tokens.count else { return "there are \(tokens.count)" }
        func differs(_ bytes: ArraySlice<UInt8>, _ offset: Int) -> Bool {
            file.memory.withUnsafeBytes(offset..<offset + bytes.count) { !$0.elementsEqual(bytes) }
        }
        for (index, token) in tokens.prefix(full.tokens).enumerated() {
            if file.memory.load(at: full.idsOffset + 4 * index, as: UInt32.self) != token.id {
                return "the id of token \(index) is wrong"
            }
            for head in 0..<geometry.heads {
                let key = full.keysOffset + head * full.keyHeadStride + index * geometry.keyBytes
                let value = full.valuesOffset + head * full.valueHeadStride + index * geometry.valueBytes
                if differs(token.key(layer: layer, head: head), key) {
                    return "the key of token \(index), head \(head), is wrong"
                }
                if differs(token.value(layer: layer, head: head), value) {
                    return "the value of token \(index), head \(head), is wrong"
                }
            }
        }
        return nil
    }

    private func show(_ model: SessionModel) async {
        let answer = await ask(.show(SessionReference(model.name)), allowing: looking(for: model))
        guard let answer, case .row(let row) = answer.reply, isAlone else { return }
        if row.tokens != model.tokens.count {
            world.fail("\(model.name) is shown with \(row.tokens) tokens of \(model.tokens.count)")
        }
        if row.durableTokens < model.durable {
            world.fail("\(model.name) is shown with \(row.durableTokens) durable tokens of \(model.durable)")
        }
    }

    private func listMine() async {
        let answer = await ask(.list(everybody: false, after: nil))
        guard let answer, case .rows(let rows, more: false) = answer.reply else { return }
        guard isAlone, !plan.isDiskTight, plan.weather != .faults else { return }
        let expected = simulation.sessions.keys.filter { $0.owner == user }.map(\.name).sorted()
        if rows.map(\.name) != expected { world.fail("\(rows.map(\.name)) are listed, \(expected) are there") }
    }

    // MARK: Making durable

    private func sync(_ session: HeldSession, window: Bool, isBeside: Bool = false) async {
        let model = session.model
        let (count, versions) = (model.tokens.count, model.past.count)
        let (answer, error) = await attempt(
            .sync(handle: session.handle, window: window), allowing: using(session, isBeside: isBeside))
        note(session, error)
        guard let answer, case .standing(let standing) = answer.reply, model.past.count == versions else { return }
        noteDurable(standing.durableTokens, of: model)
        let least = window ? count : model.sealedChunks(at: count) * model.policy.lag
        if standing.durableTokens < least {
            world.fail("\(model.name): a sync leaves \(standing.durableTokens) of \(least) tokens durable")
        }
    }

    // MARK: Mistakes

    private func ask(badly session: HeldSession) async {
        let model = session.model
        let page = session.page()
        guard session.isWriter else {
            let right: Set<ErrorCode> = using(session).union([.notWriter])
            note(session, await attempt(.release(handle: session.handle), allowing: right).error)
            return
        }
        let handle = session.handle
        let mistakes: [(Request, ErrorCode)] = [
            (.commit(handle: handle, tokens: max(0, model.tokens.count - 1), []), .badTokenCount),
            (.commit(handle: handle, tokens: model.description.capacity + 1, []), .beyondCapacity),
            (
                .commit(handle: handle, tokens: page.grant + 1, []),
                page.grant < model.description.capacity ? .beyondGrant : .beyondCapacity
            ),
            (.truncate(handle: handle, tokens: model.tokens.count + 1), .badTokenCount),
            (.full(handle: handle, layer: model.geometry.layers, again: false), .limitExceeded),
            (.sync(handle: handle &+ 99, window: true), .badHandle),
            (.delete(SessionReference(model.name)), .sessionBusy),
            (.open(SessionReference(model.name), write: true, fingerprint: nil), .writerBusy),
            (.open(SessionReference(model.name), write: false, fingerprint: "another model"), .mismatch),
        ]
        let (request, code) = world.numbers.pick(mistakes)
        if case .commit(_, 0, _) = request, model.tokens.isEmpty { return }
        let answer = await attempt(request, allowing: [code]).answer
        if answer != nil { world.fail("\(request) is answered, not refused with \(code)") }
    }

    /// Another user's sessions may be read where they are shared, and nothing else.
    private func reachForOthers() async {
        let others = simulation.sessions.keys.filter { $0.owner != user }.sorted()
        guard !others.isEmpty else { return }
        let key = world.numbers.pick(others)
        guard let model = simulation.sessions[key] else { return }
        let reference = SessionReference(key.name, owner: .user(key.owner))
        let right: ErrorCode = model.description.isShared ? .notPermitted : .notFound
        let requests: [Request] = [
            .open(reference, write: true, fingerprint: nil), .delete(reference), .suspend(reference),
        ]
        let answer = await attempt(world.numbers.pick(requests), allowing: looking(for: model).union([right])).answer
        if answer != nil { world.fail("another user's session \(key.name) is opened for writing, suspended or deleted") }
    }
}
