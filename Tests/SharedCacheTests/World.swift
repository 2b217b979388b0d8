import CacheLoop
import LinuxKit
import LoopTesting
import Synchronization

/// Everything that can happen in a simulated run, and the one place that decides what happens next.
///
/// Whoever waits for something (the disk, a worker, the clock, a client's next idea) waits for its turn here. When nothing is
/// left to run, the world gives one of them its turn, chosen by its numbers. So a seed is a whole history: the order in
/// which writes complete, workers finish and clients speak.
@CacheLoop
final class World {
    var numbers: SeededNumbers
    /// Turns given so far.
    private(set) var steps = 0
    /// The clock that all processes share.
    private(set) var milliseconds: UInt64 = 1_000_000
    /// The first thing that was not as it must be; the run ends with it.
    private(set) var failure: String?
    private var waiting: [Turn] = []

    private struct Turn {
        let life: Life?
        let notBefore: Int
        let wakes: UInt64
        let continuation: UnsafeContinuation<Void, Never>
    }

    /// A run that takes more turns than this goes round in circles.
    private static let mostSteps = 4_000_000

    nonisolated init(seed: UInt64) {
        numbers = SeededNumbers(seed: seed)
    }

    /// Says what happens, where one seed is run alone.
    func tell(_ text: @autoclosure () -> String) { if isTold { print("\(steps): \(text())") } }
    private let isTold = !Seeds.isWhole

    func fail(_ text: String) {
        tell("FAILED: \(text)")
        if failure == nil { failure = "at step \(steps): \(text)" }
    }

    /// Waits until it is the caller's turn.
    /// - Parameters:
    ///   - life: of whom; a process that has ended waits for nothing.
    ///   - delay: others' turns that come first, if there are others.
    func turn(of life: Life? = nil, delay: Int = 0) async {
        if let life, life.hasEnded { return }
        await withUnsafeContinuation {
            waiting.append(Turn(life: life, notBefore: steps + delay, wakes: 0, continuation: $0))
        }
    }

    func sleep(milliseconds pause: UInt64, of life: Life) async {
        if life.hasEnded { return }
        await withUnsafeContinuation {
            waiting.append(Turn(life: life, notBefore: 0, wakes: milliseconds + pause, continuation: $0))
        }
    }

    /// Wakes everything that a process waited for: it has ended, and its tasks shall find out.
    func release(_ life: Life) {
        let released = waiting.filter { $0.life === life }
        waiting.removeAll { $0.life === life }
        for turn in released { turn.continuation.resume() }
    }

    /// Gives one turn.
    fileprivate func step() {
        steps += 1
        milliseconds += UInt64(numbers.number(in: 0...2))
        guard steps < Self.mostSteps else { return fail("no end in sight: work goes round in circles") }
        guard !waiting.isEmpty else { return fail("deadlock: everybody waits, and nothing is left to happen") }
        var able = waiting.indices.filter { waiting[$0].notBefore <= steps && waiting[$0].wakes <= milliseconds }
        if able.isEmpty { able = [soonest()] }
        waiting.remove(at: numbers.pick(able)).continuation.resume()
    }

    /// Where only slow things and sleepers are left, the first of them; the clock is put forward to its time.
    private func soonest() -> Int {
        let next = waiting.indices.min {
            (waiting[$0].wakes, waiting[$0].notBefore) < (waiting[$1].wakes, waiting[$1].notBefore)
        }!
        milliseconds = max(milliseconds, waiting[next].wakes)
        return next
    }
}

/// Whether a simulated process still runs.
@CacheLoop
final class Life {
    private(set) var hasEnded = false
    func end() { hasEnded = true }
}

extension World {
    /// Runs `body` in a world of its own, on the calling thread, to its end or to the first failure.
    nonisolated static func run<Value: Sendable>(
        seed: UInt64, _ body: @escaping @CacheLoop @Sendable (World) async -> Value
    ) -> (value: Value?, failure: String?) {
        let run = Run<Value>()
        CacheLoop.start { await run.givingTurns(in: World(seed: seed), body) }
        // A task that is made outside the loop comes to it by way of another thread.
        while run.idle == nil { CacheLoop.shared.executor.runUntilIdle() }
        while let idle = run.idle {
            run.idle = nil
            idle.resume()
            CacheLoop.shared.executor.runUntilIdle()
        }
        return (run.value, run.failure)
    }

    /// Safe: it is touched by the jobs of the loop and between them, all on the one thread that runs them.
    private final class Run<Value: Sendable>: @unchecked Sendable {
        var value: Value?
        var failure: String?
        /// Resumed when no job is left.
        var idle: UnsafeContinuation<Void, Never>?

        @CacheLoop
        func givingTurns(in world: World, _ body: @escaping @CacheLoop @Sendable (World) async -> Value) async {
            CacheLoop.start { self.value = await body(world) }
            while true {
                await withUnsafeContinuation { idle = $0 }
                failure = world.failure
                guard value == nil, failure == nil else { return }
                world.step()
            }
        }
    }
}

extension World {
    /// Runs `body` on a thread of its own, so that nothing of the simulation meets Swift's own threads.
    nonisolated static func onThread<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await LoopTurns.withTurn {
            await withCheckedContinuation { continuation in
                // Nobody joins it: it ends with its body, whose end is waited for otherwise.
                _ = KernelThread(name: "simulation") { continuation.resume(returning: body()) }
            }
        }
    }
}
