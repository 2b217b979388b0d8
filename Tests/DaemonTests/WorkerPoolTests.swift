import CacheLoop
import LinuxKit
import Testing

@testable import Daemon

@Suite("the workers", .timeLimit(.minutes(1)))
struct WorkerPoolTests {
    @Test("work is done elsewhere, and its results come back to the loop")
    func results() async throws {
        let pool = WorkerPool(width: 2)
        let sum = try await withLoop { _ in
            let tasks = (0..<200).map { number in
                CacheLoop.start { await pool.run(Urgency.allCases[number % 2]) { number * number } }
            }
            var sum = 0
            for task in tasks { sum += await task.value }
            return sum
        }
        pool.shutDown()
        #expect(sum == (0..<200).reduce(0) { $0 + $1 * $1 })
    }

    @Test("what is urgent runs even while everything that may wait is stuck, and the loop goes on")
    func urgency() async throws {
        let pool = WorkerPool(width: 2)
        let isReleased = Monitor(false)
        let answers = try await withLoop { reactor in
            let stuck = (0..<6).map { _ in
                CacheLoop.start { await pool.run(.spill) { isReleased.wait { $0 ? 1 : nil } } }
            }
            await reactor.sleep(milliseconds: 1)
            let urgent = await pool.run(.seal) { 10 }
            isReleased.changeForAll { $0 = true }
            var sum = urgent
            for task in stuck { sum += await task.value }
            return sum
        }
        pool.shutDown()
        #expect(answers == 16)
    }
}
