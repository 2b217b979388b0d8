import CacheLoop
import CacheModel
import LinuxKit
import WireProtocol

@testable import SharedCache

/// Requests that change a session, and what the model makes of them.
extension SimulatedClient {
    // MARK: Being there

    func create(_ name: SessionName) async {
        let model = SessionModel(world.numbers.pick(plan.descriptions), owner: user, name: name)
        let taken = simulation.sessions[simulation.key(model)]
        let right: Set<ErrorCode> = taken == nil ? among([.alreadyExists]) : [.alreadyExists]
        let intent = simulation.begin(.create(model))
        let (answer, error) = await attempt(.create(name, model.description), allowing: right)
        guard !isOver else { return }
        guard let answer, case .attachment(let attachment) = answer.reply else {
            // A disk that fails half way may have made it, or may not let it be removed.
            if plan.weather != .faults || error == .alreadyExists { simulation.end(intent) }
            return
        }
        simulation.end(intent)
        simulation.add(model)
        let session = attach(attachment, answer.files, to: model)
        if !session.isBlank(session.page().grant) { world.fail("\(model.name) begins in another session's bytes") }
    }

    @discardableResult
    func open(_ model: SessionModel, write: Bool) async -> HeldSession? {
        let reference = SessionReference(model.name, owner: .user(model.owner))
        var right = looking(for: model)
        if write { right.formUnion(model.writer == nil ? among([.writerBusy]) : [.writerBusy]) }
        let fingerprint = world.numbers.once(in: 2) ? model.description.fingerprint : nil
        right.formUnion(among([.mismatch]))
        let (answer, error) = await attempt(.open(reference, write: write, fingerprint: fingerprint), allowing: right)
        if error == .notFound, simulation.mayVanish(model), isAlone { simulation.remove(model) }
        guard let answer, case .attachment(let attachment) = answer.reply else { return nil }
        // Under that name there may be another session by now.
        guard let found = simulation.sessions[Simulation.Key(owner: attachment.row.owner, name: attachment.row.name)] else {
            world.fail("\(attachment.row.name) is opened and does not exist")
            return nil
        }
        return attach(attachment, answer.files, to: found)
    }

    @discardableResult
    private func attach(_ attachment: Attachment, _ files: [GrantedFile], to model: SessionModel) -> HeldSession {
        let session = HeldSession(attachment, files, model: model)
        if session.isWriter {
            if let writer = model.writer, !writer.isClosing, !writer.isInvalid { world.fail("\(model.name) has two writers") }
            model.writer = session
        }
        if attachment.row.tokens != model.tokens.count {
            world.fail("\(model.name) opens with \(attachment.row.tokens) tokens of \(model.tokens.count)")
        }
        noteDurable(attachment.row.durableTokens, of: model)
        model.control = files[1]
        held.append(session)
        return session
    }

    func close(_ session: HeldSession) async {
        session.isClosing = true
        _ = await ask(.close(handle: session.handle))
        guard !isOver else { return }
        letGo(session)
        session.isInvalid = true
    }

    // MARK: Appending

    /// Appends a few tokens as an engine does, in as many steps as it likes.
    func append(_ session: HeldSession) async {
        let model = session.model
        var left = world.numbers.number(in: 1...3 * model.policy.lag)
        while left > 0, !isOver {
            let page = session.page()
            let count = model.tokens.count
            guard count < model.description.capacity else { return }
            if world.numbers.once(in: 5) {
                guard let delivered = await deliver(session, atMost: left) else { return }
                left -= delivered
                continue
            }
            if page.grant <= count {
                guard await commit(session, [], count, []), session.page().grant > count else { return }
                continue
            }
            let step = min(left, page.grant - count, world.numbers.number(in: 1...2 * model.policy.lag))
            let tokens = (0..<step).map { _ in newToken(model) }
            for (index, token) in tokens.enumerated() { session.write(token, index: count + index, page) }
            if world.numbers.once(in: 20) { await world.turn(of: process.life) }
            guard !isOver else { return }
            // Dying here leaves rows that nobody published.
            if world.numbers.once(in: 200) { return await die() }
            left -= step
            if count + step < page.boundary, world.numbers.number(in: 0...3) > 0 {
                session.publish(count + step)
                model.append(tokens)
                simulation.countOperation()
            } else {
                let options: CommitOptions = world.numbers.once(in: 4) ? .durable : []
                guard await commit(session, tokens, count + step, options) else { return }
            }
        }
    }

    /// Appends tokens by inlets, or writes some there and then does something else.
    /// - Returns: how many were appended; nil when the request was refused.
    private func deliver(_ session: HeldSession, atMost most: Int) async -> Int? {
        let (model, first) = (session.model, session.model.tokens.count)
        let wanted = min(model.description.capacity, first + most)
        let tokens = (first..<wanted).map { _ in newToken(model) }
        var end = first
        while end < wanted {
            let (answer, error) = await attempt(.inlet(handle: session.handle, after: end, wanted: wanted), allowing: [.noInlet])
            guard !isOver else { return nil }
            if error == .noInlet { break }
            guard let answer, case .inlet(let grant) = answer.reply else { return nil }
            if grant.from != first || grant.until <= end { world.fail("\(model.name) of \(first) tokens is granted \(grant)") }
            session.write(tokens, from: first, to: grant, answer.files[0])
            end = min(wanted, grant.until)
        }
        guard end > first, !world.numbers.once(in: 8) else { return 0 }
        if world.numbers.once(in: 100) {
            await die()
            return nil
        }
        for layers in 1..<max(2, model.geometry.layers) where world.numbers.once(in: 2) {
            let (answer, _) = await attempt(.deliver(handle: session.handle, tokens: end, layers: layers))
            guard !isOver, answer != nil else { return nil }
        }
        var options: CommitOptions = .delivered
        if world.numbers.once(in: 4) { options.insert(.durable) }
        return await commit(session, Array(tokens.prefix(end - first)), end, options) ? end - first : nil
    }

    private func newToken(_ model: SessionModel) -> Token { Token(number: world.numbers.next(), geometry: model.geometry) }

    private func commit(_ session: HeldSession, _ tokens: [Token], _ count: Int, _ options: CommitOptions) async -> Bool {
        let model = session.model
        model.claimed = tokens
        let (answer, error) = await attempt(.commit(handle: session.handle, tokens: count, options))
        guard !isOver else { return false }
        // A commit that could not wait for the disk has been done all the same.
        if answer != nil || options.contains(.durable) && error != nil && session.page().tokens == count { model.append(tokens) }
        model.claimed = []
        guard let answer else { return false }
        expectStanding(answer.reply, of: session)
        if session.page().tokens != count {
            world.fail("\(model.name): \(count) tokens were committed, \(session.page().tokens) are there")
        }
        if options.contains(.durable), session.page().durableTokens < model.sealedChunks(at: count) * model.policy.lag {
            world.fail("\(model.name): a durable commit of \(count) tokens leaves \(session.page().durableTokens) durable")
        }
        checkMemory(session, options)
        return true
    }

    /// After a commit that gives pages back, the kernel counts what the budget is charged.
    private func checkMemory(_ session: HeldSession, _ options: CommitOptions) {
        let page = session.page()
        if page.sealedChunks > 0 { session.mayHoldFreedPages = false }
        guard !session.mayHoldFreedPages, let layout = try? SlabLayout(session.model.description),
            let allocated = try? session.slab.allocatedBytes
        else { return }
        // Recalled rows end at row 0, so their first page is as full as it happens to be.
        let recalled = session.model.recalled.reduce(0) { $0 + $1[0].count }
        let edges = recalled > 0 ? session.model.geometry.layers * session.model.geometry.heads * 2 * 4_096 : 0
        let most = layout.residentBytes(rows: layout.rows(tokens: page.tokens, grant: page.grant), grant: page.grant, recalled: recalled) + edges
        if allocated > most { world.fail("\(session.model.name) takes \(allocated) bytes of memory, of \(most) at most") }
    }

    // MARK: Going back

    func truncate(_ session: HeldSession) async {
        let model = session.model
        guard model.changesUnderWay == 0 else { return }
        let count = world.numbers.number(in: 0...model.tokens.count)
        let durable = model.durable
        let cut = Array(model.tokens[count...])
        model.changesUnderWay += 1
        // From here on a crash may leave the shorter session.
        model.durable = min(durable, count)
        model.shortening = count
        let (answer, error) = await attempt(.truncate(handle: session.handle, tokens: count))
        guard !isOver else { return }
        model.shortening = nil
        model.changesUnderWay -= 1
        guard let answer else {
            // A disk that failed half way may have made the truncation durable.
            if error != .diskFailed { model.durable = durable }
            return
        }
        model.truncate(to: count)
        expectStanding(answer.reply, of: session)
        if session.page().durableTokens < min(durable, count) {
            world.fail("\(model.name): a truncation to \(count) is not durable")
        }
        session.mayHoldFreedPages = true
        if world.numbers.once(in: 2) { await appendAgain(cut, session) }
    }

    /// The same tokens once more: everything must be as if they had never been cut.
    private func appendAgain(_ tokens: [Token], _ session: HeldSession) async {
        let page = session.page()
        let count = session.model.tokens.count
        let step = Array(tokens.prefix(max(0, page.grant - count)))
        guard !step.isEmpty else { return }
        for (index, token) in step.enumerated() { session.write(token, index: count + index, page) }
        guard await commit(session, step, count + step.count, []) else { return }
        if let wrong = await session.checkView(pause: {}) { world.fail(wrong) }
    }

    func fork(_ model: SessionModel, as name: SessionName) async {
        guard model.changesUnderWay == 0 else { return }
        let tokens = world.numbers.once(in: 2) ? nil : world.numbers.number(in: 0...model.tokens.count)
        let taken = simulation.sessions[Simulation.Key(owner: user, name: name)]
        let right: Set<ErrorCode> = taken == nil ? among([.alreadyExists]) : [.alreadyExists]
        model.changesUnderWay += 1
        let fork = SessionModel(model.description, owner: user, name: name, tokens: Array(model.tokens.prefix(tokens ?? .max)))
        let intent = simulation.begin(.create(fork))
        let (answer, error) = await attempt(
            .fork(SessionReference(model.name), as: name, tokens: tokens),
            allowing: right.union(looking(for: model)).union([.alreadyExists]))
        guard !isOver else { return }
        model.changesUnderWay -= 1
        guard let answer, case .row(let row) = answer.reply else {
            if error != .diskFailed { simulation.end(intent) }
            return
        }
        simulation.end(intent)
        guard row.tokens <= model.tokens.count, row.durableTokens == row.tokens else {
            return world.fail("a fork of \(model.name): \(row)")
        }
        let made = SessionModel(model.description, owner: user, name: name, tokens: Array(model.tokens.prefix(row.tokens)))
        if let tokens, row.tokens != tokens { world.fail("a fork at \(tokens) tokens has \(row.tokens)") }
        made.durable = row.tokens
        simulation.add(made)
    }

    // MARK: Recall

    func recall(_ session: HeldSession) async {
        let model = session.model
        let layer = world.numbers.number(in: 0...model.geometry.layers - 1)
        let sealed = session.page().sealedChunks
        let evicted = model.policy.evicted(inLayer: layer)
        let count = world.numbers.number(in: 1...2)
        let chunks = (0..<model.geometry.heads).map { _ in
            Array((0...max(sealed, count)).shuffled(using: &world.numbers).prefix(count))
        }
        let right = rightAnswer(chunks, layer: layer, sealed: sealed, evicted: evicted, model)
        guard let choice = try? RecallChoice(layer: layer, chunks: chunks) else { return world.fail("no choice") }
        let answer = await ask(.recall(handle: session.handle, [choice]), allowing: right.map { [$0] } ?? [])
        guard !isOver, let answer else { return }
        guard right == nil else {
            return world.fail("\(model.name): a recall of \(chunks) is answered, not refused with \(right!)")
        }
        for (head, chosen) in chunks.enumerated() {
            let rows = chosen.sorted().flatMap { model.evicted(chunk: $0, layer: layer, head: head) }
            model.recalled[layer][head] = rows + model.recalled[layer][head]
        }
        expectStanding(answer.reply, of: session)
        if let wrong = await session.checkView(pause: {}) { world.fail(wrong) }
    }

    /// The error that such a recall must meet; nil if it is in order. (An error in one head is enough; heads are looked at in turn.)
    private func rightAnswer(_ chunks: [[Int]], layer: Int, sealed: Int, evicted: Int, _ model: SessionModel) -> ErrorCode? {
        guard evicted > 0 else { return .nothingEvicted }
        for (head, chosen) in chunks.enumerated() {
            for chunk in chosen {
                guard chunk < sealed else { return .notSealed }
                let first = model.evicted(chunk: chunk, layer: layer, head: head)[0]
                if model.recalled[layer][head].contains(first) { return .alreadyRecalled }
            }
        }
        return nil
    }

    func release(_ session: HeldSession) async {
        guard let answer = await ask(.release(handle: session.handle)) else { return }
        session.model.forgetRecalled()
        expectStanding(answer.reply, of: session)
    }

    // MARK: By name

    func rename(_ model: SessionModel, to name: SessionName) async {
        let taken = simulation.sessions[Simulation.Key(owner: user, name: name)]
        let right: Set<ErrorCode> = taken == nil ? among([.alreadyExists]) : [.alreadyExists]
        let intent = simulation.begin(.rename(model, name))
        let (answer, error) = await attempt(.rename(model.name, to: name), allowing: right.union(looking(for: model)))
        guard !isOver else { return }
        if error != .diskFailed { simulation.end(intent) }
        if answer != nil { simulation.rename(model, to: name) }
    }

    func delete(_ model: SessionModel) async {
        let right: Set<ErrorCode> = model.writer == nil ? among([.sessionBusy]) : [.sessionBusy]
        let intent = simulation.begin(.delete(model))
        let (answer, error) = await attempt(.delete(SessionReference(model.name)), allowing: right.union(looking(for: model)))
        guard !isOver else { return }
        if error != .diskFailed { simulation.end(intent) }
        guard answer != nil else { return }
        simulation.remove(model)
        for session in held where session.model === model { session.isInvalid = true }
    }

    func suspend(_ model: SessionModel) async {
        let own = held.filter { $0.model === model }
        let isMine = own.contains { $0.isWriter && !$0.isInvalid }
        var right = looking(for: model)
        if !isMine { right.formUnion(model.writer == nil ? among([.sessionBusy]) : [.sessionBusy]) }
        let answer = await ask(.suspend(SessionReference(model.name)), allowing: right)
        guard !isOver, let answer, case .row(let row) = answer.reply else { return }
        guard row.name == model.name else { return }
        if row.state != .suspended || row.durableTokens != row.tokens { world.fail("suspended: \(row)") }
        if row.tokens != model.tokens.count {
            world.fail("\(model.name) is suspended with \(row.tokens) of \(model.tokens.count) tokens")
        }
        noteDurable(row.durableTokens, of: model)
        model.forgetRecalled()
        model.writer = nil
        for session in own { session.isInvalid = true }
    }

    func resume(_ model: SessionModel) async {
        let answer = await ask(.resume(SessionReference(model.name)), allowing: looking(for: model))
        guard let answer, case .row(let row) = answer.reply else { return }
        if row.state != .resident { world.fail("resumed: \(row)") }
    }
}
