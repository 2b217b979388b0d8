/// Where work that takes milliseconds of a core goes: the daemon's worker pool, or the simulator's own thread.
public protocol Compute: Sendable {
    /// How many pieces of work run at a time: into how many it pays to cut a large one.
    var width: Int { get }

    /// Runs `body` off the loop and comes back with what it returned. Waits, in turn, while all workers are busy.
    func run<Value: Sendable>(_ urgency: Urgency, _ body: @escaping @Sendable () -> Value) async -> Value
}

/// What may wait: a writer waits for a seal; nobody waits for the coding of what is already staged.
public enum Urgency: Int, Sendable, CaseIterable {
    case seal
    case spill
}
