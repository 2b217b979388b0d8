internal import DequeModule

/// Lets tasks of the loop through one at a time, in the order they came.
@CacheLoop
public final class Gate {
    private var isClosed = false
    private var waiting = Deque<UnsafeContinuation<Void, Never>>()

    public nonisolated init() {}

    /// Waits for its turn. Every `enter` must be followed by one `leave`.
    public func enter() async {
        guard isClosed else {
            isClosed = true
            return
        }
        // Unsafe because checked continuations allocate; `leave` resumes each exactly once.
        await withUnsafeContinuation { waiting.append($0) }
    }

    public func leave() {
        precondition(isClosed, "a gate is left without having been entered")
        guard let next = waiting.popFirst() else {
            isClosed = false
            return
        }
        next.resume()
    }

    /// Nobody is inside.
    public var isOpen: Bool { !isClosed }
}
