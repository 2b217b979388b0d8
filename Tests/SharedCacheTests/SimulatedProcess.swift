import CacheLoop
import ChunkStore
import LinuxKit

@testable import SharedCache

/// One life of the daemon's core: what it holds in memory ends with it, what is on the disk stays.
@CacheLoop
final class SimulatedProcess {
    let life = Life()
    let cache: SessionCache
    let keeper: SimulatedKeeper
    private let world: World

    /// - Parameter kept: what the service manager has from the life before.
    init(disk: SimulatedDisk, world: World, settings: CacheSettings, kept: [KeptSlabs] = []) {
        self.world = world
        keeper = SimulatedKeeper(life, kept)
        let numbers = SeededNumbers(seed: world.numbers.next())
        cache = SessionCache(
            device: SimulatedDevice(disk: disk, world: world, life: life),
            compute: SimulatedCompute(width: world.numbers.number(in: 1...3), world: world, life: life),
            clock: SimulatedClock(world: world, life: life), entropy: Entropy(numbers), settings: settings, keeper: keeper)
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

/// A service manager that holds what it is told to hold, until it is told to let go.
@CacheLoop
final class SimulatedKeeper: SlabKeeper {
    private let life: Life
    /// From the life before, and not let go.
    private(set) var kept: [KeptSlabs]
    private var held: [ObjectID: (slab: SharedMemory, control: SharedMemory)] = [:]

    nonisolated init(_ life: Life, _ kept: [KeptSlabs]) {
        self.life = life
        self.kept = kept
    }

    var count: Int { held.count + kept.count }

    func keep(_ slab: SharedMemory, _ control: SharedMemory, of id: ObjectID) {
        if !life.hasEnded { held[id] = (slab, control) }
    }

    func letGo(of id: ObjectID) {
        guard !life.hasEnded else { return }
        held[id] = nil
        kept.removeAll { $0.id == id }
    }

    /// The files as they are now: what tasks of a process that has ended still do to them has not happened.
    func snapshot() -> [KeptSlabs] {
        func copy(_ memory: SharedMemory) -> AlignedBuffer {
            let copy = AlignedBuffer(byteCount: memory.byteCount)
            copy.copy(0..<memory.byteCount, of: memory, to: 0)
            return copy
        }
        return kept + held.map { KeptSlabs(id: $0.key, slab: copy($0.value.slab), control: copy($0.value.control)) }
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
