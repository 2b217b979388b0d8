internal import CacheLoop
internal import Glibc
internal import LinuxKit
internal import Synchronization

/// The daemon's one loop: runs the jobs of `CacheLoop`, and between them waits on the ring.
///
/// One turn: run jobs until none is left (they queue operations), hand the operations to the kernel and wait for a
/// completion, resume who waited for those that came. Anything else that wants the loop's attention, from any thread,
/// enqueues a job on the executor, which writes to an eventfd that is always being read while the loop sleeps.
///
/// Invariants: the ring is touched only by the thread in `run`, either by itself or by a job that it runs; an
/// operation's memory and files live in the table until its completion was seen; `run` returns only when none is in flight.
@CacheLoop
final class Reactor {
    // Unsafe because `run` is not isolated: it is what gives the actor its thread. Safe, because jobs run only inside
    // `run`, on its thread, so that it and they never run at the same time.
    private nonisolated(unsafe) var ring: Ring
    private nonisolated(unsafe) var operations = OperationTable()
    /// Tasks that found the ring full.
    private nonisolated(unsafe) var waitingForRoom: [UnsafeContinuation<Void, Never>] = []
    private nonisolated(unsafe) var isStopping = false
    /// The alarm's eventfd is being read.
    private nonisolated(unsafe) var isAlarmRead = false
    /// What the last `reap` took; here for its capacity.
    private nonisolated(unsafe) var completions: [Ring.Completion] = []
    private nonisolated let alarm: Alarm

    /// A loop that does not run yet; operations may be started, and wait for it.
    nonisolated init(ring: consuming Ring) throws(KernelError) {
        alarm = try Alarm()
        self.ring = ring
    }

    /// Runs the loop on the calling thread until `stop`.
    ///
    /// One loop runs at a time in a process, since there is one `CacheLoop`. Afterwards the ring is closed, and every
    /// operation that is started answers ECANCELED.
    nonisolated func run() throws(KernelError) {
        try ring.enable()
        let executor = CacheLoop.shared.executor
        let alarm = alarm
        executor.onWake { alarm.ring() }
        defer { executor.onWake(nil) }
        while true {
            executor.runUntilIdle()
            let isDone = isStopping && operations.count == 0 && waitingForRoom.isEmpty
            if isDone && !isAlarmRead { break }
            if isDone {
                // Ends the read of the alarm, so that the kernel is done with its memory.
                alarm.strike()
            } else if !isAlarmRead, ring.hasRoom {
                ring.queue(.read(alarm.rawValue, alarm.buffer, offset: 0), userData: Self.alarmNumber)
                isAlarmRead = true
            }
            try turn()
        }
        ring.close()
    }

    /// Hands over what is queued, sleeps until something happens, and resumes those it happened to.
    private nonisolated func turn() throws(KernelError) {
        alarm.set()
        // A job that came between the last look and the setting of the alarm struck no bell: look again.
        let mayWait = CacheLoop.shared.executor.runUntilIdle() == 0 && isAlarmRead && waitingForRoom.isEmpty
        let code = ring.submit(waitingFor: mayWait ? 1 : 0)
        alarm.unset()
        switch code {
        // EAGAIN and EBUSY: the kernel is short of memory until completions are taken.
        case 0, EINTR, EAGAIN, EBUSY: break
        default: throw KernelError(call: "io_uring_enter", code: code)
        }
        repeat {
            ring.reap(into: &completions)
            for completion in completions {
                if completion.userData == Self.alarmNumber { isAlarmRead = false }
                operations.remove(completion.userData)?.resume(returning: completion.result)
            }
        } while completions.count == Ring.batchSize
        let woken = waitingForRoom
        waitingForRoom.removeAll(keepingCapacity: true)
        for continuation in woken { continuation.resume() }
    }

    /// Makes `run` return, once what is in flight has ended: what waits for others is cancelled, what the disk does is
    /// finished.
    func stop() {
        isStopping = true
        for number in operations.patient { cancel(number) }
    }

    /// Cancels what is in flight on a file; those who wait get ECANCELED, unless it was done before.
    func cancelOperations(on file: RingFile) {
        for number in operations.holding(file) { cancel(number) }
    }

    private func cancel(_ number: UInt64) {
        CacheLoop.start {
            guard await roomOnRing() else { return }
            ring.queue(.cancel(userData: number), userData: OperationTable.nobody)
        }
    }

    /// Starts an operation and waits for its completion.
    /// - Parameters:
    ///   - keeping: everything that the operation points to.
    ///   - isPatient: it waits for somebody else, so that `stop` has to cancel it.
    /// - Returns: what the system call would have returned, or minus its errno.
    func perform(_ operation: RingOperation, keeping: [AnyObject], isPatient: Bool = false) async -> Int32 {
        guard await roomOnRing(), !isStopping else { return -ECANCELED }
        return await withUnsafeContinuation { continuation in
            ring.queue(operation, userData: operations.add(continuation, keeping: keeping, isPatient: isPatient))
        }
    }

    /// Waits until an operation can be queued.
    /// - Returns: false when the ring is closed.
    private func roomOnRing() async -> Bool {
        while !ring.isClosed {
            if ring.hasRoom { return true }
            await withUnsafeContinuation { waitingForRoom.append($0) }
        }
        return false
    }

    /// The user data of the read that the alarm's eventfd is under. Its slot is nobody's.
    private static nonisolated let alarmNumber = 1 << 32 | OperationTable.nobody
}

/// Wakes the loop's thread out of the kernel, and costs nothing while it is awake.
private final class Alarm: Sendable {
    private let counter: EventCounter
    private let isSet = Atomic(false)
    private let memory = AlignedBuffer(byteCount: EventCounter.byteCount)

    init() throws(KernelError) {
        counter = try EventCounter()
    }

    var rawValue: Int32 { counter.rawValue }

    /// Where the kernel stores what it read. Safe to hand out: nobody else looks at it, and the alarm outlives the loop.
    var buffer: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: memory.baseAddress, count: EventCounter.byteCount)
    }

    // The order of these three with the executor's lock is what makes no wake-up get lost. Whoever enqueues a job holds
    // the lock before it rings; the loop sets the alarm before it holds the lock to look for jobs. So either
    // the loop sees the job, or the one who enqueued it sees the alarm set.
    func set() { isSet.store(true, ordering: .sequentiallyConsistent) }
    func unset() { isSet.store(false, ordering: .sequentiallyConsistent) }
    func ring() {
        if isSet.exchange(false, ordering: .sequentiallyConsistent) { strike() }
    }
    func strike() { counter.signal() }
}
