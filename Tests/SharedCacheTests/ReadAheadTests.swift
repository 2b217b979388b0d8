import CacheLoop
import CacheModel
import ChunkStore
import LinuxKit
import Testing
import WireProtocol

@testable import SharedCache

/// What a connection that goes through the layers gains by it, and that it costs nobody anything.
@Suite("reading ahead of full views", .serialized)
struct ReadAheadTests {
    @Test("once a layer's view is made, the next layer's needs the disk no more")
    func nextLayerIsThere() async {
        await inWorlds { reader in
            await reader.expectView(layer: 0)
            await reader.rest()
            reader.breakDisk()
            await reader.expectView(layer: 1)
            await reader.expectNoView(layer: 3)
        }
    }

    @Test("what was read ahead serves no other layer, and is read anew after it")
    func otherLayers() async {
        await inWorlds { reader in
            for layer in [2, 0, 1, 1, 3, 2] { await reader.expectView(layer: layer) }
            await reader.rest()
            reader.breakDisk()
            await reader.expectNoView(layer: 0)
        }
    }

    @Test("what is read ahead is charged while it is held, and given back with the connection, whatever it was doing")
    func isGivenBack() async {
        await inWorlds { reader in
            let before = reader.cache.transitBytes
            await reader.expectView(layer: 0)
            #expect(reader.cache.transitBytes > before + reader.viewBytes)
            await reader.cache.close(reader.connection)
            #expect(reader.cache.transitBytes == before)
        }
    }

    @Test("nothing is read ahead that the memory budget has no room for")
    func withinBudget() async {
        await inWorlds { reader in
            reader.cache.settings.memoryBudget = reader.cache.chargedMemory() + reader.viewBytes
            for layer in 0..<Reader.geometry.layers {
                await reader.expectView(layer: layer)
                #expect(reader.cache.chargedMemory() <= reader.cache.settings.memoryBudget)
                await reader.rest()
            }
            reader.breakDisk()
            await reader.expectNoView(layer: 0)
        }
    }

    private func inWorlds(_ body: @escaping @CacheLoop @Sendable (Reader) async -> Void) async {
        for seed in 1...20 as ClosedRange<UInt64> {
            let failure = await World.onThread {
                World.run(seed: seed) { world in
                    guard let reader = await Reader.make(in: world) else { return world.fail("no session") }
                    await body(reader)
                    await reader.cache.close(reader.connection)
                }.failure
            }
            #expect(failure == nil, "seed \(seed)")
        }
    }
}

/// A connection that holds a session of several sealed chunks, all of them on disk.
@CacheLoop
private final class Reader {
    let connection = Connection(caller: Caller(user: 1, process: 1, isAdministrator: false))
    let world: World
    private let disk = SimulatedDisk()
    private let process: SimulatedProcess
    private var handle: UInt32 = 0

    static let geometry = try! Geometry(layers: 4, heads: 2, keyDim: 8, valueDim: 4, element: .bfloat16)
    private static let tokens = 44

    var cache: SessionCache { process.cache }
    var viewBytes: Int { FullLayout(geometry: Self.geometry, tokens: Self.tokens).bytes }

    private init(in world: World) {
        self.world = world
        process = SimulatedProcess(disk: disk, world: world, settings: CacheSettings(memoryBudget: 1 << 30))
    }

    static func make(in world: World) async -> Reader? {
        let reader = Reader(in: world)
        let policy = try! Policy(sink: 2, lag: 4, keepRatio: 0.5)
        let description = try! SessionDescription(geometry: geometry, policy: policy, capacity: 100, fingerprint: "model")
        do throws(CacheError) {
            try await reader.cache.start()
            let name = try SessionName("a")
            guard case .attachment(let attachment) = try await reader.ask(.create(name, description)) else { return nil }
            reader.handle = attachment.handle
            // The tokens are zeros: whose bytes come back is the simulation's question.
            _ = try await reader.ask(.commit(handle: reader.handle, tokens: tokens, []))
            _ = try await reader.ask(.sync(handle: reader.handle, window: false))
            return reader
        } catch {
            world.fail("\(error)")
            return nil
        }
    }

    private func ask(_ request: Request) async throws(CacheError) -> Reply {
        try await cache.answer(request, from: connection).result.get()
    }

    private func view(layer: Int) async throws(CacheError) -> Reply {
        try await ask(.full(handle: handle, layer: layer, again: true))
    }

    func expectView(layer: Int) async {
        do throws(CacheError) { _ = try await view(layer: layer) } catch { world.fail("no view of layer \(layer): \(error)") }
    }

    func expectNoView(layer: Int) async {
        do throws(CacheError) {
            _ = try await view(layer: layer)
            world.fail("layer \(layer) comes from a disk that refuses everything")
        } catch {
            if error.code != .diskFailed { world.fail("layer \(layer) is refused: \(error)") }
        }
    }

    /// Lets everything happen that is under way.
    func rest() async { await world.turn(delay: 10_000) }

    func breakDisk() { disk.faults.errors = 1_000 }
}
