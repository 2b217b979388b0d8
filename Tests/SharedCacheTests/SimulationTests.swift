import CacheLoop
import Glibc
import SharedCache
import Testing

/// The core under a simulated disk, clock and workers: every seed is one history, checked against plain models.
///
/// `LAGKV_SEEDS=10000` runs more of them, `LAGKV_SEED=17` one alone.
@Suite("simulation", .serialized)
struct SimulationTests {
    @Test("every answer is what a plain model says, over random sequences of all requests, 10,000 operations at least")
    func calm() async {
        let totals = await run(.calm, seeds: 120)
        if Seeds.isWhole {
            #expect(totals.operations >= 10_000)
            #expect(totals.slabsReused > 100)
        }
    }

    @Test("a kill at any instant loses nothing that was acknowledged")
    func crashes() async {
        let totals = await run(.crashes, seeds: 120)
        if Seeds.isWhole {
            #expect(totals.crashes > 50)
            #expect(totals.tokensRescued > 100)
            #expect(totals.lateRescues > 5)
        }
    }

    @Test("a disk that fails loses nothing that was acknowledged, and heals")
    func faults() async {
        _ = await run(.faults, seeds: 120)
    }

    @Test("a disk that forgets what it was told to keep is found out", arguments: [true, false])
    func canary(ofFiles: Bool) async {
        var faults = Faults()
        if ofFiles { faults.forgottenFileSyncs = 300 } else { faults.forgottenDirectorySyncs = 300 }
        let broken = faults
        let caught = await World.onThread {
            (1...40).contains { Self.simulate(.crashes, seed: UInt64($0), forgetting: broken).failure != nil }
        }
        #expect(caught, "the oracle sees nothing wrong with a disk that loses synced bytes")
    }

    private struct Totals: Sendable {
        var operations = 0
        var crashes = 0
        /// By the daemon's last life of each seed.
        var slabsReused = 0
        var tokensRescued = 0
        var lateRescues = 0
    }

    private func run(_ weather: Plan.Weather, seeds: Int, name: String = #function) async -> Totals {
        let (totals, failure) = await World.onThread { () -> (Totals, String?) in
            var totals = Totals()
            for seed in Seeds.chosen(seeds) {
                LastWords.set("LAGKV_SEED=\(seed) SWIFT_DETERMINISTIC_HASHING=1 swift test --filter SimulationTests/\(name)\n")
                let outcome = Self.simulate(weather, seed: seed)
                totals.operations += outcome.value?.operations ?? 0
                totals.crashes += outcome.value?.crashes ?? 0
                totals.slabsReused += outcome.value?.slabsReused ?? 0
                totals.tokensRescued += outcome.value?.tokensRescued ?? 0
                totals.lateRescues += outcome.value?.lateRescues ?? 0
                if let failure = outcome.failure {
                    return (
                        totals,
                        "LAGKV_SEED=\(seed) SWIFT_DETERMINISTIC_HASHING=1 swift test --filter SimulationTests/\(name)\n\(failure)"
                    )
                }
            }
            return (totals, nil)
        }
        print(
            "simulation, \(weather): \(totals.operations) operations, \(totals.crashes) crashes, \(totals.slabsReused) slabs reused, "
                + "\(totals.tokensRescued) tokens rescued, \(totals.lateRescues) sessions left to a later life")
        if let failure { Issue.record("\(failure)") }
        return totals
    }

    private static func simulate(
        _ weather: Plan.Weather, seed: UInt64, forgetting: Faults? = nil
    ) -> (value: Totals?, failure: String?) {
        World.run(seed: seed) { world in
            let simulation = Simulation(weather, in: world, forgetting: forgetting)
            await simulation.run()
            return Totals(
                operations: simulation.operations, crashes: simulation.crashes,
                slabsReused: simulation.process.cache.metrics.slabsReused, tokensRescued: simulation.tokensRescued,
                lateRescues: simulation.lateRescues)
        }
    }
}

/// Which seeds to run.
enum Seeds {
    /// Not one alone.
    static var isWhole: Bool { getenv("LAGKV_SEED") == nil }

    static func chosen(_ count: Int) -> [UInt64] {
        if let one = number("LAGKV_SEED") { return [one] }
        return Array(1...max(1, number("LAGKV_SEEDS") ?? UInt64(count)))
    }

    private static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }
}
