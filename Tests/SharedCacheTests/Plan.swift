import CacheModel
import SharedCache
import WireProtocol

@testable import struct SharedCache.SlabLayout

/// What one seed sets out to do: the sizes, the budgets, the faults, and how often it all goes down.
struct Plan: Sendable {
    /// Which kind of trouble a run looks for.
    enum Weather: Sendable {
        /// Nothing goes wrong but clients, who may die at any moment.
        case calm
        /// The daemon is killed now and then.
        case crashes
        /// The disk is ill now and then as well.
        case faults
    }

    var weather: Weather
    var clients: Int
    /// Users of the clients, in turn.
    var users: [UInt32]
    /// How many times the daemon is started.
    var lives: Int
    /// Actions of all clients together in one life.
    var actions: Int
    var descriptions: [SessionDescription]
    var settings: CacheSettings
    var isMemoryTight = false
    var isDiskTight = false
    /// While the disk is ill.
    var faults = Faults()

    init(_ weather: Weather, _ numbers: inout SeededNumbers) {
        self.weather = weather
        clients = numbers.pick([1, 1, 2, 3, 4])
        users = numbers.once(in: 3) ? [1_000, 1_001] : [1_000]
        lives = weather == .calm ? 1 : numbers.number(in: 2...4)
        actions = weather == .calm ? numbers.number(in: 60...200) : numbers.number(in: 20...90)
        isDiskTight = numbers.once(in: 6)
        descriptions = (0...numbers.number(in: 0...1)).map { _ in Self.description(disposable: numbers.once(in: 4), &numbers) }
        settings = CacheSettings(memoryBudget: 1 << 40)
        setBudgets(&numbers)
        if weather == .faults { setFaults(&numbers) }
    }

    private static func description(disposable: Bool, _ numbers: inout SeededNumbers) -> SessionDescription {
        let layers = numbers.number(in: 1...3)
        let uncompressed = (0..<layers).filter { _ in numbers.once(in: 6) }
        do {
            return try SessionDescription(
                geometry: Geometry(
                    layers: layers, heads: numbers.number(in: 1...3), keyDim: numbers.number(in: 2...20),
                    valueDim: numbers.number(in: 2...20), element: numbers.pick(ElementType.allCases)),
                policy: Policy(
                    sink: numbers.number(in: 0...9), lag: numbers.number(in: 2...12),
                    keepRatio: numbers.pick([0.05, 0.125, 0.25, 0.3, 0.5, 0.75, 0.9, 1]),
                    valueWeight: numbers.pick([0, 0.5, 1, 3]),
                    uncompressedLayers: uncompressed),
                capacity: numbers.number(in: 20...200), fingerprint: "model \(numbers.next())", isShared: numbers.once(in: 2),
                isDisposable: disposable)
        } catch {
            preconditionFailure("the plan is beyond the limits: \(error)")
        }
    }

    private mutating func setBudgets(_ numbers: inout SeededNumbers) {
        if numbers.once(in: 3) { settings.staging = 1 }
        settings.readAhead = numbers.pick([1, 40_000, 100_000, settings.readAhead])
        if numbers.once(in: 3) {
            isMemoryTight = true
            settings.memoryBudget = numbers.number(in: 1...3) * descriptions.map(Self.mostBytes).max()!
            if numbers.once(in: 3) { settings.memoryBudgetPerUser = settings.memoryBudget * 2 / 3 }
        }
        if isDiskTight {
            settings.diskBudget = numbers.number(in: 50_000...600_000)
            if numbers.once(in: 3) { settings.diskBudgetPerUser = settings.diskBudget! / 2 }
        }
        if numbers.once(in: 4) { settings.idleSuspendMilliseconds = UInt64(numbers.number(in: 0...200)) }
    }

    /// Bytes of a full session and the full view of one of its layers.
    private static func mostBytes(_ description: SessionDescription) -> Int {
        guard let layout = try? SlabLayout(description) else { preconditionFailure("the slabs are beyond the limits") }
        return layout.residentBytes(rows: layout.rows(tokens: 0, grant: description.capacity), grant: description.capacity, recalled: 0)
            + description.capacity * (description.geometry.layerTokenBytes + 4) + 3 * 4_096
    }

    private mutating func setFaults(_ numbers: inout SeededNumbers) {
        faults.errors = numbers.pick([0, 5, 30, 100])
        faults.outOfSpace = numbers.pick([0, 20, 100])
        faults.slow = numbers.pick([0, 50, 300])
        faults.flippedReads = numbers.pick([0, 0, 50])
        if numbers.once(in: 3) { faults.byteLimit = numbers.number(in: 20_000...300_000) }
    }
}
