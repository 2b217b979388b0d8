import CacheLoop
import LoopTesting
import Synchronization
import Testing

@Suite("the loop's executor")
struct LoopExecutorTests {
    private final class Log: Sendable {
        let numbers = Mutex<[Int]>([])
    }

    @Test("a task of the loop that waits and is resumed never leaves it: when the loop is idle, everything is done")
    func tasksStay() async {
        await LoopTurns.withTurn {
            let log = Log()
            let (gate, signal) = (Gate(), Signal())
            for number in 0..<100 {
                CacheLoop.start {
                    await signal.wait()
                    await gate.enter()
                    log.numbers.withLock { $0.append(number) }
                    gate.leave()
                }
            }
            CacheLoop.start { signal.fire() }
            // One call, on this thread: were a task resumed elsewhere, it would not be back by the end of it.
            CacheLoop.shared.executor.runUntilIdle()
            #expect(log.numbers.withLock { $0 } == Array(0..<100))
        }
    }
}
