internal import CacheLoop
internal import DequeModule
internal import LinuxKit

/// Threads for what takes milliseconds of a core, or waits where the ring cannot.
///
/// Each urgency has its own threads, one for every core, and those of `spill` run at a niceness of 19. So the kernel does
/// what a queue here could only imitate: work that somebody waits for finds a free thread and is given a core at
/// once, spilling has every core that is left over, and neither can keep the other from moving.
final class WorkerPool: Compute {
    let width: Int
    /// By urgency.
    private let queues: [Monitor<Queue>]
    private let threads: [KernelThread]

    private struct Queue {
        var jobs = Deque<@Sendable () -> Void>()
        var isClosed = false
    }

    /// - Parameter width: how many run at a time of each urgency; as many as there are cores.
    init(width: Int = Kernel.coreCount) {
        precondition(width > 0, "a pool of \(width) workers")
        self.width = width
        let queues = Urgency.allCases.map { _ in Monitor(Queue()) }
        self.queues = queues
        threads = Urgency.allCases.flatMap { urgency in
            (0..<width).map { index in
                KernelThread(name: "\(urgency)-\(index)", niceness: urgency == .spill ? 19 : 0) {
                    Self.work(on: queues[urgency.rawValue])
                }
            }
        }
    }

    func run<Value: Sendable>(_ urgency: Urgency, _ body: @escaping @Sendable () -> Value) async -> Value {
        await withUnsafeContinuation { continuation in
            let accepted = queues[urgency.rawValue].change { queue in
                guard !queue.isClosed else { return false }
                queue.jobs.append { continuation.resume(returning: body()) }
                return true
            }
            precondition(accepted, "work was given to a pool that was shut down")
        }
    }

    /// Finishes what was accepted and ends the threads. Blocks; call it once, after the loop has stopped.
    func shutDown() {
        for queue in queues { queue.changeForAll { $0.isClosed = true } }
        for thread in threads { thread.join() }
    }

    private static func work(on queue: Monitor<Queue>) {
        while true {
            // Nil inside: the queue is closed and empty.
            let found = queue.wait { queue -> (@Sendable () -> Void)?? in
                if let job = queue.jobs.popFirst() { return .some(job) }
                return queue.isClosed ? .some(nil) : nil
            }
            guard let job = found else { return }
            job()
        }
    }
}
