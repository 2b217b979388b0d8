/// The one thread that owns the ring, the sockets, the timers and all session state.
///
/// Everything that decides is isolated to this actor, so there are no locks around state, and the compiler proves it. Its
/// executor is ours: the daemon runs its jobs between two waits on the ring; the simulator runs them until nothing is left
/// and then picks, from its seed, which completion comes next. Straight-line `async` code over a `Device` thereby does
/// what hand-written event machines would do (the same core under both), and stays readable from top to bottom.
@globalActor
public actor CacheLoop {
    public static let shared = CacheLoop()
    public nonisolated let executor = LoopExecutor()
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
}

extension CacheLoop {
    /// Starts a task on the loop, one that never leaves it. Used in place of `Task { }`, for the reason that
    /// `LoopExecutor` gives.
    @discardableResult
    public static nonisolated func start<Value: Sendable>(
        @_implicitSelfCapture _ body: @escaping @CacheLoop @Sendable () async -> Value
    ) -> Task<Value, Never> {
        Task(executorPreference: shared.executor) { await body() }
    }

    /// As the other `start`, for a body that can fail.
    @discardableResult
    public static nonisolated func start<Value: Sendable>(
        @_implicitSelfCapture _ body: @escaping @CacheLoop @Sendable () async throws -> Value
    ) -> Task<Value, any Error> {
        Task(executorPreference: shared.executor) { try await body() }
    }
}
