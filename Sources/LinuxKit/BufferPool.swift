internal import Synchronization

/// Buffers whose memory is used again: what one lets go of, the next gets, its pages already there.
///
/// Sizes are rounded up to one of four in each octave, so that buffers of many lengths can stand in for each other at the cost
/// of at most a quarter. Invariant: the memory held for the next user never exceeds `byteLimit` bytes. Usable from any thread.
public final class BufferPool: Sendable {
    /// Memory that nobody uses, and since which call of `trim`.
    private struct Idle: @unchecked Sendable {
        let address: UnsafeMutableRawPointer
        let byteCount: Int
        let since: UInt64
    }

    private struct State {
        /// By size; the one that was let go of last is at the end.
        var idle: [Int: [Idle]] = [:]
        var heldBytes = 0
        var trims: UInt64 = 0
    }

    public let byteLimit: Int
    private let state = Mutex(State())

    /// - Parameter byteLimit: bytes to hold at most while nobody uses them; 0 turns recycling off.
    public init(byteLimit: Int) {
        self.byteLimit = byteLimit
    }

    deinit {
        for idle in state.withLock({ $0.idle.values.joined() }) { AlignedBuffer.free(idle.address, idle.byteCount) }
    }

    /// Bytes held now.
    public var heldBytes: Int { state.withLock { $0.heldBytes } }

    /// A buffer of at least `byteCount` bytes, which comes back by itself when nobody holds it any more. **What is in it is what
    /// its last user left.**
    public func take(byteCount: Int) -> AlignedBuffer {
        precondition(byteCount > 0, "a buffer of \(byteCount) bytes")
        let size = Self.sizeClass(byteCount)
        let idle = state.withLock { state -> Idle? in
            guard let idle = state.idle[size]?.popLast() else { return nil }
            state.heldBytes -= size
            return idle
        }
        return AlignedBuffer(owning: idle?.address ?? AlignedBuffer.allocate(size), byteCount: size, home: self)
    }

    /// Called by the last holder of a buffer.
    func keep(_ address: UnsafeMutableRawPointer, _ byteCount: Int) {
        nonisolated(unsafe) let address = address
        let isKept = state.withLock { state in
            guard state.heldBytes + byteCount <= byteLimit else { return false }
            state.heldBytes += byteCount
            state.idle[byteCount, default: []].append(Idle(address: address, byteCount: byteCount, since: state.trims))
            return true
        }
        if !isKept { AlignedBuffer.free(address, byteCount) }
    }

    /// Gives memory back to the system that nobody has wanted for `calls` calls of this: a quiet daemon is a small one.
    public func trim(after calls: UInt64) {
        let old = state.withLock { state -> [Idle] in
            state.trims += 1
            let now = state.trims
            var old: [Idle] = []
            for (size, idle) in state.idle {
                old += idle.filter { $0.since + calls < now }
                state.idle[size] = idle.filter { $0.since + calls >= now }
            }
            state.heldBytes -= old.reduce(0) { $0 + $1.byteCount }
            return old
        }
        for idle in old { AlignedBuffer.free(idle.address, idle.byteCount) }
    }

    /// The least of 1, 1¼, 1½, 1¾ times a power of two (in blocks) that is at least `byteCount`. Example: 9 blocks → 10, 13 → 14.
    static func sizeClass(_ byteCount: Int) -> Int {
        let blocks = AlignedBuffer.roundedUp(byteCount) / AlignedBuffer.blockSize
        guard blocks > 4 else { return blocks * AlignedBuffer.blockSize }
        let step = 1 << (Int.bitWidth - 1 - (blocks - 1).leadingZeroBitCount - 2)
        return (blocks + step - 1) / step * step * AlignedBuffer.blockSize
    }
}
