import CacheLoop
import CacheModel
import ChunkStore
import LinuxKit
import WireProtocol

@testable import SharedCache

/// One seed's run: lives of the daemon over one disk, clients who use it, and the models of what must come of it.
@CacheLoop
final class Simulation {
    let world: World
    let plan: Plan
    let disk = SimulatedDisk()
    /// The sessions that must be there, under the names that they must have.
    private(set) var sessions: [Key: SessionModel] = [:]
    private var intents: [Int: Intent] = [:]
    private var lastIntent = 0
    private(set) var operations = 0
    private(set) var crashes = 0
    private var actionsLeft = 0
    private(set) var process: SimulatedProcess
    /// What the service manager has for the next life.
    private var kept: [KeptSlabs] = []
    private(set) var tokensRescued = 0
    /// Sessions left alone by a life that could not write what was kept of them.
    private(set) var lateRescues = 0
    private var clientsAtWork = 0
    private let clientDone = Signal()

    struct Key: Hashable, Comparable {
        let owner: UInt32
        let name: SessionName
        static func < (left: Self, right: Self) -> Bool { (left.owner, left.name) < (right.owner, right.name) }
    }

    /// What was asked and not yet answered, or answered by a disk that failed half way: after a crash it may have happened or not.
    enum Intent {
        case create(SessionModel)
        case rename(SessionModel, SessionName)
        case delete(SessionModel)
    }

    init(_ weather: Plan.Weather, in world: World, forgetting: Faults? = nil) {
        self.world = world
        var plan = Plan(weather, &world.numbers)
        if let forgetting { plan.faults = forgetting }
        self.plan = plan
        process = SimulatedProcess(disk: disk, world: world, settings: plan.settings)
    }

    func run() async {
        await start()
        for life in 1...plan.lives {
            await live()
            if life < plan.lives || process.life.hasEnded { await restart() }
        }
        await heal()
        // What an ill disk would not remove stays until the next start.
        await checkAtRest(names: plan.weather != .faults)
        await stop()
        await restart()
        await checkAtRest(names: true)
        await stop()
    }

    // MARK: Lives

    private func start() async {
        do throws(CacheError) {
            try await process.cache.start(with: process.keeper.kept)
        } catch {
            world.fail("the daemon does not start on a healthy disk: \(error)")
        }
        if !process.keeper.kept.isEmpty { world.fail("what was kept of \(process.keeper.kept.count) sessions is not let go") }
        tokensRescued += process.cache.metrics.tokensRescued
        await recover()
    }

    /// Clients at work until their actions are used up or the daemon is killed.
    private func live() async {
        actionsLeft = plan.actions
        disk.faults = plan.faults
        let keeper = CacheLoop.start { await self.keepTime() }
        for index in 0..<plan.clients {
            clientsAtWork += 1
            let user = plan.users[index % plan.users.count]
            CacheLoop.start {
                await SimulatedClient(number: index, user: user, in: self).live()
                clientsAtWork -= 1
                clientDone.fire()
            }
        }
        if plan.weather != .calm, world.numbers.once(in: 2) {
            await world.turn(of: process.life, delay: world.numbers.number(in: 1...plan.actions * 40))
            kill()
        }
        while clientsAtWork > 0 { await clientDone.wait() }
        isQuiet = true
        await keeper.value
        isQuiet = false
    }

    private var isQuiet = false

    /// What the daemon's timer does.
    private func keepTime() async {
        while !isQuiet, !process.life.hasEnded {
            await world.sleep(milliseconds: 50, of: process.life)
            await process.cache.suspendIdle()
        }
    }

    private func kill() {
        world.tell("the daemon is killed")
        for session in sessions.values { session.durable = max(session.durable, session.durableInControlPage) }
        // Without a loss of power the kernel remembers what was not synced, and the service manager what it was given.
        losesPower = world.numbers.number(in: 0...3) > 0
        kept = losesPower ? [] : process.keeper.snapshot()
        if !losesPower {
            for (key, session) in sessions { session.durable = max(session.durable, tokensInReach(key) ?? 0) }
        }
        process.kill()
        crashes += 1
    }

    private var losesPower = false

    /// The tokens of a session that a kill now leaves on disk and in the memory that the service manager holds; nil while that is in
    /// motion.
    private func tokensInReach(_ key: Key) -> Int? {
        guard
            let session = process.cache.sessions[SessionCache.SessionKey(owner: key.owner, name: key.name)],
            let resident = session.resident, resident.slabs.generation.isMultiple(of: 2),
            session.staged.isEmpty, session.files.durableTokens == session.files.tokens,
            let model = sessions[key], model.changesUnderWay == 0
        else { return nil }
        return min(resident.currentTokens, model.visible.count)
    }

    private func restart() async {
        if !process.life.hasEnded {
            if world.numbers.once(in: 3) {
                // Its budgets stay as they are.
                disk.faults = Faults()
                await stop()
            } else {
                kill()
            }
        }
        // Whoever waited in the last life finds out that it is over.
        await world.turn()
        if losesPower { disk.crash(&world.numbers) }
        if !kept.isEmpty, world.numbers.once(in: 4) { await liveOnFullDisk() }
        disk.faults = Faults()
        process = SimulatedProcess(disk: disk, world: world, settings: plan.settings, kept: kept)
        await start()
        process.cache.settings = plan.settings
    }

    /// A life that can make nothing durable of what was kept, and leaves it for the next.
    private func liveOnFullDisk() async {
        disk.faults = Faults(byteLimit: disk.usedBytes)
        process = SimulatedProcess(disk: disk, world: world, settings: plan.settings, kept: kept)
        do throws(CacheError) {
            try await process.cache.start(with: kept)
        } catch {
            world.fail("the daemon does not start on a full disk: \(error)")
        }
        kept = process.keeper.kept
        lateRescues += kept.count
        process.kill()
        await world.turn()
    }

    /// Ends the faults and the shortage, and waits until nothing waits for the disk.
    private func heal() async {
        disk.faults = Faults()
        process.cache.settings.diskBudget = nil
        process.cache.settings.diskBudgetPerUser = nil
        for _ in 0..<20 where process.cache.stagedBytes > 0 { await world.sleep(milliseconds: 5_000, of: process.life) }
        if process.cache.stagedBytes != 0 { world.fail("\(process.cache.stagedBytes) bytes still wait for a healthy disk") }
    }

    /// Ends the daemon in good order: every token is on disk then.
    private func stop() async {
        let failed = await process.cache.stop()
        if let first = failed.first { world.fail("\(first.name) is not made durable by stopping: \(first.error)") }
        for session in sessions.values { session.durable = session.tokens.count }
        if process.keeper.count != 0 { world.fail("\(process.keeper.count) sessions' memory is still held after a stop") }
        // Who stops in good order may lose power afterwards.
        losesPower = world.numbers.once(in: 2)
        kept = []
        process.kill()
    }

    // MARK: Books

    var isOver: Bool { world.failure != nil || process.life.hasEnded || actionsLeft <= 0 }

    func takeAction() { actionsLeft -= 1 }

    func countOperation() { operations += 1 }

    func begin(_ intent: Intent) -> Int {
        lastIntent += 1
        intents[lastIntent] = intent
        return lastIntent
    }

    func end(_ intent: Int) { intents[intent] = nil }

    func key(_ session: SessionModel) -> Key { Key(owner: session.owner, name: session.name) }

    func add(_ session: SessionModel) {
        if let other = sessions[key(session)], !mayVanish(other) { world.fail("two sessions are called \(session.name)") }
        sessions[key(session)] = session
    }

    func remove(_ session: SessionModel) {
        if sessions[key(session)] === session { sessions[key(session)] = nil }
    }

    func rename(_ session: SessionModel, to name: SessionName) {
        remove(session)
        session.name = name
        add(session)
    }

    /// Whether the daemon may delete it by itself.
    func mayVanish(_ session: SessionModel) -> Bool { plan.isDiskTight && session.description.isDisposable }

    // MARK: After a crash

    /// Takes stock: what must be there is there, under one of the names it may have, and holds what it must.
    private func recover() async {
        let rows = await SimulatedClient(number: 0, user: 0, in: self).everything()
        var found: [Key: SessionRow] = [:]
        for row in rows { found[Key(owner: row.owner, name: row.name)] = row }
        let expected = sessions.values.sorted { key($0) < key($1) }
        sessions = [:]
        // Those that kept their names come first: a new name may be one that a rename under way would have been refused.
        let (kept, others) = (expected.filter { found[key($0)] != nil }, expected.filter { found[key($0)] == nil })
        for session in kept + others { claim(session, from: &found, isCertain: !isDoubtful(session)) }
        for (_, intent) in intents.sorted(by: { $0.key < $1.key }) {
            if case .create(let session) = intent { claim(session, from: &found, isCertain: false) }
        }
        intents = [:]
        if let stranger = found.keys.min() { world.fail("after a crash there is a session \(stranger.name) that nobody made") }
        for session in sessions.values.sorted(by: { key($0) < key($1) }) {
            await SimulatedClient(number: 0, user: 0, in: self).checkRecovered(session)
        }
    }

    private func isDoubtful(_ session: SessionModel) -> Bool {
        mayVanish(session)
            || intents.values.contains { if case .delete(let deleted) = $0 { deleted === session } else { false } }
    }

    private func claim(_ session: SessionModel, from found: inout [Key: SessionRow], isCertain: Bool) {
        var names = [session.name]
        for case .rename(let renamed, let name) in intents.values where renamed === session { names.append(name) }
        let there = names.filter { name in
            found[Key(owner: session.owner, name: name)]?.description.fingerprint == session.description.fingerprint
        }
        guard let name = there.first else {
            if isCertain { world.fail("session \(session.name) is gone after a crash") }
            return
        }
        session.name = name
        let row = found[key(session)]!
        guard row.tokens >= session.durable, row.tokens <= session.visible.count else {
            // It may be another one of the name: several may have failed to be made before one of them was there.
            guard isCertain else { return }
            return world.fail(
                "\(name) comes back with \(row.tokens) tokens: it had \(session.tokens.count) and \(session.claimed.count) under way, "
                    + "\(session.durable) of them durable")
        }
        found[key(session)] = nil
        session.recover(at: row.tokens)
        sessions[key(session)] = session
    }

    // MARK: At rest

    /// Nobody does anything any more: every session is whole, and nothing is left that belongs to nobody.
    private func checkAtRest(names: Bool) async {
        let cache = process.cache
        for session in sessions.values.sorted(by: { key($0) < key($1) }) {
            await SimulatedClient(number: 0, user: 0, in: self).checkWhole(session)
        }
        guard world.failure == nil else { return }
        if cache.transitBytes != 0 { world.fail("\(cache.transitBytes) bytes of views are still charged") }
        if cache.stagedBytes != 0 { world.fail("\(cache.stagedBytes) bytes are still staged") }
        if cache.store.usedBytes != disk.usedBytes {
            world.fail("\(cache.store.usedBytes) bytes are counted on disk, \(disk.usedBytes) are there")
        }
        if names { checkFiles() }
    }

    private func checkFiles() {
        do {
            for directory in ["pending", "trash"] {
                for entry in try disk.list(directory) { world.fail("\(directory)/\(entry.name) belongs to nobody") }
            }
            for session in process.cache.sessions.values {
                let durable = session.files.durable
                let expected = Set(durable.chunks.map(\.text) + [durable.window].compactMap(\.?.text) + ["manifest"])
                let entries = try disk.list(session.files.path)
                let names = Set(entries.map(\.name))
                if names != expected { world.fail("\(session.name) has files \(names.sorted()), needs \(expected.sorted())") }
                let bytes = entries.reduce(0) { $0 + $1.size }
                if bytes != session.files.bytes { world.fail("\(session.name) counts \(session.files.bytes) bytes of \(bytes)") }
            }
        } catch {
            world.fail("a directory is gone: \(error)")
        }
    }

    /// Must hold between any two steps.
    func checkBudget() {
        let charged = process.cache.chargedMemory()
        if charged > plan.settings.memoryBudget {
            world.fail("\(charged) bytes are charged to a budget of \(plan.settings.memoryBudget)")
        }
    }
}

extension SessionModel {
    /// What the daemon last said where clients look; 0 if it was never attached, or is suspended.
    fileprivate var durableInControlPage: Int {
        guard let control = control?.memory, control.load(at: 12, as: UInt32.self) == 1, changesUnderWay == 0 else { return 0 }
        return min(Int(control.loadRelaxed(at: 40)), visible.count)
    }
}
