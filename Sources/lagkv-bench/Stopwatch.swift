internal import Glibc

/// Measuring time.
enum Stopwatch {
    /// Seconds that `body` takes.
    static func seconds<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Double {
        let start = now()
        try body()
        return now() - start
    }

    /// The least seconds of several runs: what the work takes when nobody else wants the machine.
    static func best<Failure: Error>(of runs: Int, _ body: () throws(Failure) -> Void) throws(Failure) -> Double {
        var best = Double.infinity
        for _ in 0..<runs { best = min(best, try seconds(body)) }
        return best
    }

    /// The median seconds of several runs: what somebody has to expect.
    static func median<Failure: Error>(of runs: Int, _ body: () throws(Failure) -> Void) throws(Failure) -> Double {
        var all: [Double] = []
        for _ in 0..<runs { all.append(try seconds(body)) }
        return all.sorted()[all.count / 2]
    }

    /// The least seconds of a limit and of what is held against it, taken in turn, so that both meet the machine as it is.
    static func inTurn<Failure: Error>(
        _ rounds: Int, limit: () throws(Failure) -> Double, figure: () throws(Failure) -> Double
    ) throws(Failure) -> (limit: Double, figure: Double) {
        var best = (limit: Double.infinity, figure: Double.infinity)
        for _ in 0..<rounds {
            best.limit = min(best.limit, try limit())
            best.figure = min(best.figure, try figure())
        }
        return best
    }

    private static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

extension Double {
    var logarithm10: Double { log10(self) }
}
