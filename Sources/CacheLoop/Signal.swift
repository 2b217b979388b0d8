/// Wakes everyone who waits, each time something has changed. Waiters look again and wait again if it was not for them.
@CacheLoop
public final class Signal {
    private var waiting: [UnsafeContinuation<Void, Never>] = []

    public nonisolated init() {}

    public func wait() async {
        await withUnsafeContinuation { waiting.append($0) }
    }

    public func fire() {
        let woken = waiting
        waiting.removeAll()
        for continuation in woken { continuation.resume() }
    }
}
