internal import DequeModule
import Synchronization

/// Runs the loop's jobs in the order they came, on whichever thread calls `runUntilIdle`; only one may at a time.
///
/// Jobs may be enqueued from any thread. `wake` is called for a job that arrives while nobody is running jobs, so that a
/// thread asleep in the kernel can be woken.
public final class LoopExecutor: SerialExecutor, Sendable {
    private struct State: ~Copyable {
        var jobs = Deque<UnownedJob>()
        var isRunning = false
        var wake: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    init() {}

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let wake = state.withLock { state -> (@Sendable () -> Void)? in
            state.jobs.append(job)
            return state.isRunning ? nil : state.wake
        }
        wake?()
    }

    /// Called, from any thread, when a job arrives while none are being run.
    public func onWake(_ wake: (@Sendable () -> Void)?) {
        state.withLock { $0.wake = wake }
    }

    /// Runs jobs, and the jobs they make, until there are none.
    /// - Returns: how many ran.
    @discardableResult
    public func runUntilIdle() -> Int {
        var ran = 0
        while true {
            let job = state.withLock { state -> UnownedJob? in
                state.isRunning = !state.jobs.isEmpty
                return state.jobs.popFirst()
            }
            guard let job else { return ran }
            job.runSynchronously(on: asUnownedSerialExecutor())
            ran += 1
        }
    }
}
