internal import CLinux

/// io_uring: operations go in, completions come out, one thread does both.
///
/// The lowest layer: memory that an operation points to belongs to the kernel from `queue` until its completion, and
/// whoever queues it must keep it so long. Nothing here waits but `submit(waitingFor:)`.
public struct Ring: ~Copyable, @unchecked Sendable {
    /// How completions reach the thread. Later is better.
    public enum Mode: Int32, Sendable, CaseIterable {
        /// By interrupting it (before Linux 5.19).
        case interrupting
        /// When it enters the kernel anyhow (Linux 5.19).
        case cooperative
        /// When it waits for them, and at no other time (Linux 6.1).
        case deferred
    }

    /// Nil once closed.
    private(set) var ring: OpaquePointer?

    /// A ring that takes operations at once, and reaches the kernel with them once a thread has called `enable`.
    /// - Parameters:
    ///   - entries: operations that can be queued between two submissions; a power of two, at most 32,768.
    ///   - completions: completions that can wait to be reaped before the kernel has to store them elsewhere.
    ///   - bestMode: the mode to try first; an older kernel gives an earlier one.
    public init(
        entries: UInt32 = 256, completions: UInt32 = 4_096, bestMode: Mode = .deferred
    ) throws(RingUnavailable) {
        var code: Int32 = 0
        guard let ring = clinux_ring_create(entries, completions, bestMode.rawValue, &code) else {
            throw RingUnavailable(code: code)
        }
        if let missing = clinux_ring_missing(ring) {
            clinux_ring_free(ring)
            throw RingUnavailable(missingOperation: String(cString: missing))
        }
        self.ring = ring
    }

    deinit {
        if let ring { clinux_ring_free(ring) }
    }

    /// Gives the ring back to the kernel. Nothing may be in flight, and nothing can be done with it afterwards.
    public mutating func close() {
        if let ring { clinux_ring_free(ring) }
        ring = nil
    }

    public var isClosed: Bool { ring == nil }

    // Safe: clinux_ring_mode answers one of the three modes, which are numbered alike.
    public var mode: Mode { Mode(rawValue: clinux_ring_mode(ring))! }

    /// Makes the calling thread the one that queues, submits and reaps from now on.
    public mutating func enable() throws(KernelError) {
        let result = clinux_ring_enable(ring)
        guard result >= 0 else { throw KernelError(call: "io_uring_register", detail: "enable", code: -result) }
    }

    /// Another operation can be queued; if not, submit first. A closed ring has no room.
    public var hasRoom: Bool { ring.map { clinux_ring_room($0) > 0 } ?? false }

    /// Hands what is queued to the kernel, and waits until `count` completions are there to be reaped.
    /// - Returns: 0, or the errno: EINTR, or EAGAIN and EBUSY when the kernel is short of memory until some are reaped.
    public mutating func submit(waitingFor count: UInt32 = 0) -> Int32 {
        -min(clinux_ring_submit(ring, count), 0)
    }

    /// Takes completions, as many as there are and fit, in place of what `batch` held.
    public mutating func reap(into batch: inout [Completion]) {
        batch.removeAll(keepingCapacity: true)
        withUnsafeTemporaryAllocation(of: clinux_completion.self, capacity: Self.batchSize) { completions in
            let count = clinux_ring_reap(ring, completions.baseAddress, UInt32(Self.batchSize))
            for completion in completions.prefix(Int(count)) {
                batch.append(Completion(userData: completion.user_data, result: completion.result))
            }
        }
    }

    /// Completions that one `reap` takes at most.
    public static let batchSize = 256

    public struct Completion: Sendable {
        public var userData: UInt64
        /// What the system call would have returned, or minus its errno.
        public var result: Int32
    }
}
