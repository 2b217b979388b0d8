internal import Glibc

enum WallClock {
    /// Milliseconds since 1970.
    static var milliseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec) / 1_000_000
    }
}

extension Duration {
    var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

/// How long `body` takes.
func measured<Value>(_ body: () throws -> Value) rethrows -> (value: Value, seconds: Double) {
    let begin = ContinuousClock.now
    let value = try body()
    return (value, (ContinuousClock.now - begin).inSeconds)
}
