internal import DequeModule
import Synchronization

/// Runs the loop's jobs in the order they came, on whichever thread calls `runUntilIdle`; only one may at a time.
///
/// Jobs may be enqueued from any thread. `wake` is called for a job that arrives while nobody is running jobs, so that a
/// thread asleep in the kernel can be woken.
///
/// It is a task executor too, and every task of the loop is to prefer it (`CacheLoop.start`). The reason: a task that was
/// suspended in a continuation is resumed on the global pool, and only from there goes back to its actor. That costs two
/// changes of thread for every completion, and a simulator could no longer tell when its world stands still. A task
/// that prefers this executor is resumed here at once.
public final class LoopExecutor: SerialExecutor, TaskExecutor, Sendable {
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
            // Also a job that is not isolated, and is here by preference alone, may run as the actor: no other job runs now.
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
            ran += 1
        }
    }
}
