/// There is one `CacheLoop` in a process, and one thread at a time may run its jobs, but tests of several targets run in
/// one process, at the same time: whoever runs the loop's jobs waits for its turn here.
public actor LoopTurns {
    private static let shared = LoopTurns()
    private var isTaken = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    public static func withTurn<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        await shared.take()
        do {
            let result = try await body()
            await shared.give()
            return result
        } catch {
            await shared.give()
            throw error
        }
    }

    private func take() async {
        guard isTaken else {
            isTaken = true
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    private func give() {
        if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() }
    }
}
