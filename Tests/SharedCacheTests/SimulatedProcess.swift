import CacheLoop
import LinuxKit

@testable import SharedCache

/// One life of the daemon's core: what it holds in memory ends with it, what is on the disk stays.
@CacheLoop
final class SimulatedProcess {
    let life = Life()
    let cache: SessionCache
    private let world: World

    init(disk: SimulatedDisk, world: World, settings: CacheSettings) {
        self.world = world
        let numbers = SeededNumbers(seed: world.numbers.next())
        cache = SessionCache(
            device: SimulatedDevice(disk: disk, world: world, life: life),
            compute: SimulatedCompute(width: world.numbers.number(in: 1...3), world: world, life: life),
            clock: SimulatedClock(world: world, life: life), entropy: Entropy(numbers), settings: settings)
    }

    /// Ends it at once. Whatever it waits for fails; what was under way on the disk may have happened or not.
    func kill() {
        life.end()
        // A real process's tasks are gone. These must run to their end to let go of memory, and a chunk that waits for a
        // healthy disk gives up only when its session is gone.
        for session in cache.sessions.values { session.isDeleted = true }
        world.release(life)
    }
}

/// Time that passes when the world says so.
@CacheLoop
final class SimulatedClock: LoopClock {
    private let world: World
    private let life: Life

    init(world: World, life: Life) {
        self.world = world
        self.life = life
    }

    var monotonicMilliseconds: UInt64 { world.milliseconds }
    var wallMilliseconds: UInt64 { 1_700_000_000_000 + world.milliseconds }
    func sleep(milliseconds: UInt64) async { await world.sleep(milliseconds: milliseconds, of: life) }
}

/// Workers that take turns on the one thread of the simulation.
struct SimulatedCompute: Compute {
    let width: Int
    let world: World
    let life: Life

    func run<Value: Sendable>(_ urgency: Urgency, _ body: @escaping @Sendable () -> Value) async -> Value {
        await world.turn(of: life)
        return body()
    }
}
