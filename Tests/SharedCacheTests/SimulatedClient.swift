import CacheLoop
import CacheModel
import LinuxKit
import WireProtocol

@testable import SharedCache

/// A client of the daemon, with its own ideas: it does what clients do, checks every answer against the models, and may die
/// at any moment, its tokens half written.
@CacheLoop
final class SimulatedClient {
    let number: Int
    let simulation: Simulation
    let process: SimulatedProcess
    var connection: Connection
    var held: [HeldSession] = []
    private var requestsBeside = 0
    private let besideDone = Signal()

    init(number: Int, user: UInt32, in simulation: Simulation) {
        self.number = number
        self.simulation = simulation
        process = simulation.process
        connection = Connection(caller: Caller(user: user, process: UInt32(number + 1), isAdministrator: user == 0))
    }

    var world: World { simulation.world }
    var plan: Plan { simulation.plan }
    var user: UInt32 { connection.caller.user }
    var isAlone: Bool { plan.clients == 1 }
    var isOver: Bool { world.failure != nil || process.life.hasEnded }

    func live() async {
        while !simulation.isOver {
            await world.turn(of: process.life)
            guard !isOver else { break }
            simulation.takeAction()
            await act()
            held.removeAll { $0.isInvalid }
            simulation.checkBudget()
        }
        await leave()
    }

    /// Ends the connection as the daemon does when the socket is gone: what is in flight is answered first.
    func leave() async {
        for session in held { session.isClosing = true }
        while requestsBeside > 0 { await besideDone.wait() }
        await process.cache.close(connection)
        for session in held { letGo(session) }
        held = []
    }

    /// The client dies, and another one takes its place.
    func die() async {
        await leave()
        connection = Connection(caller: connection.caller)
    }

    func letGo(_ session: HeldSession) {
        guard session.isWriter, session.model.writer === session else { return }
        session.model.writer = nil
        session.model.forgetRecalled()
    }

    /// Sends a request without waiting for its answer.
    func beside(_ body: @escaping @CacheLoop () async -> Void) {
        requestsBeside += 1
        CacheLoop.start {
            await body()
            requestsBeside -= 1
            besideDone.fire()
        }
    }

    // MARK: Asking

    /// - Parameter codes: errors that would be right here. Those that the plan's weather brings are added.
    /// - Returns: nil for an error, and when the daemon has been killed.
    func ask(_ request: Request, allowing codes: Set<ErrorCode> = []) async -> (reply: Reply, files: [GrantedFile])? {
        await attempt(request, allowing: codes).answer
    }

    func attempt(
        _ request: Request, allowing codes: Set<ErrorCode> = []
    ) async -> (answer: (reply: Reply, files: [GrantedFile])?, error: ErrorCode?) {
        guard !isOver else { return (nil, nil) }
        world.tell("client \(number) asks: \(request)")
        let answer = await process.cache.answer(request, from: connection)
        world.tell("client \(number) asked \(request.verb): \(answer.result)")
        guard !isOver else { return (nil, nil) }
        simulation.countOperation()
        switch answer.result {
        case .success(let reply): return ((reply, answer.files), nil)
        case .failure(let error):
            if !codes.union(weather(request.verb)).contains(error.code) { world.fail("\(request.verb) is refused: \(error)") }
            return (nil, error.code)
        }
    }

    /// Errors that are nobody's mistake.
    private func weather(_ verb: Verb) -> Set<ErrorCode> {
        var codes: Set<ErrorCode> = []
        let touchesDisk = ![.close, .release, .show, .list, .status, .metrics].contains(verb)
        if plan.weather == .faults, touchesDisk {
            codes.insert(.diskFailed)
            // A session that was refused half made, on a disk that would not remove it either.
            if [.create, .fork, .rename].contains(verb) { codes.insert(.alreadyExists) }
            if plan.faults.flippedReads > 0 { codes.insert(.corrupt) }
        }
        if plan.isDiskTight, touchesDisk { codes.insert(.diskBudget) }
        if plan.isMemoryTight, [.create, .open, .resume, .deliver, .commit, .recall, .full, .truncate].contains(verb) {
            codes.insert(.memoryBudget)
        }
        return codes
    }

    func expectStanding(_ reply: Reply, of session: HeldSession) {
        guard case .standing(let standing) = reply else { return world.fail("no standing") }
        let model = session.model
        if session.isWriter {
            // Nobody but this client could have added tokens meanwhile.
            let page = session.page()
            if page.tokens != standing.tokens {
                world.fail("\(model.name): \(standing), but its page says \(page.tokens) tokens")
            }
        }
        guard standing.tokens <= model.tokens.count else {
            return world.fail("\(model.name) stands at \(standing.tokens) tokens of \(model.tokens.count)")
        }
        if standing.sealedChunks != model.sealedChunks(at: standing.tokens) { world.fail("\(model.name): \(standing)") }
        if !standing.generation.isMultiple(of: 2) { world.fail("\(model.name): an odd generation is answered") }
        noteDurable(standing.durableTokens, of: model)
    }

    func noteDurable(_ count: Int, of model: SessionModel) {
        if count < model.durable { world.fail("\(model.name) had \(model.durable) durable tokens and now has \(count)") }
        if count > model.visible.count { world.fail("\(model.name) claims \(count) durable tokens of \(model.visible.count)") }
        model.durable = min(count, model.shortening ?? count)
    }

    // MARK: Checks for the simulation itself

    /// Every session there is.
    func everything() async -> [SessionRow] {
        var rows: [SessionRow] = []
        var after: SessionReference?
        while let answer = await ask(.list(everybody: true, after: after)), case .rows(let page, let more) = answer.reply {
            rows += page
            guard more, let last = page.last else { break }
            after = SessionReference(last.name, owner: .user(last.owner))
        }
        return rows
    }

    func checkRecovered(_ model: SessionModel) async {
        guard let session = await open(model, write: false) else { return }
        await readThrough(session)
        await leave()
    }

    func checkWhole(_ model: SessionModel) async {
        guard let session = await open(model, write: world.numbers.once(in: 2)) else { return }
        if let wrong = await session.checkView(pause: {}) { world.fail(wrong) }
        await readThrough(session)
        await leave()
    }
}
