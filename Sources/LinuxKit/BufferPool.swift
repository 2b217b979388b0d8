internal import Synchronization

/// Keeps used buffers for the next who needs one of the same size, so that their pages are not faulted in again.
///
/// Invariant: the buffers held never exceed `byteLimit` bytes together. Usable from any thread.
public final class BufferPool: Sendable {
    private struct State {
        var free: [Int: [AlignedBuffer]] = [:]
        var heldBytes = 0
    }

    public let byteLimit: Int
    private let state = Mutex(State())

    /// - Parameter byteLimit: bytes to hold at most while nobody uses them; 0 turns recycling off.
    public init(byteLimit: Int) {
        self.byteLimit = byteLimit
    }

    /// Bytes held now.
    public var heldBytes: Int { state.withLock { $0.heldBytes } }

    /// A buffer of at least `byteCount` bytes. **What is in it is what its last user left.**
    public func take(byteCount: Int) -> AlignedBuffer {
        let size = AlignedBuffer.roundedUp(byteCount)
        let recycled = state.withLock { state -> AlignedBuffer? in
            guard let buffer = state.free[size]?.popLast() else { return nil }
            state.heldBytes -= size
            return buffer
        }
        return recycled ?? AlignedBuffer(byteCount: size)
    }

    /// Gives a buffer back. Nobody may use it afterwards but through `take`; one that does not fit the limit is freed.
    public func recycle(_ buffer: AlignedBuffer) {
        state.withLock { state in
            guard state.heldBytes + buffer.byteCount <= byteLimit else { return }
            state.heldBytes += buffer.byteCount
            state.free[buffer.byteCount, default: []].append(buffer)
        }
    }
}
