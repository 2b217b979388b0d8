internal import CacheLoop
internal import Glibc
internal import LinuxKit

/// The kernel's clocks, and sleep on the ring.
@CacheLoop
final class RingClock: LoopClock {
    private let reactor: Reactor

    init(_ reactor: Reactor) {
        self.reactor = reactor
    }

    var monotonicMilliseconds: UInt64 { Self.milliseconds(CLOCK_MONOTONIC) }
    var wallMilliseconds: UInt64 { Self.milliseconds(CLOCK_REALTIME) }

    func sleep(milliseconds: UInt64) async {
        await reactor.sleep(milliseconds: milliseconds)
    }

    private static func milliseconds(_ clock: clockid_t) -> UInt64 {
        var now = timespec()
        clock_gettime(clock, &now)
        return UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
    }
}
