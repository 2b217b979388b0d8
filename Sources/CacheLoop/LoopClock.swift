/// Time as a parameter, so that a simulated day takes a millisecond.
@CacheLoop
public protocol LoopClock: AnyObject {
    /// Milliseconds that only grow.
    var monotonicMilliseconds: UInt64 { get }
    /// Milliseconds since 1970, for people to read.
    var wallMilliseconds: UInt64 { get }
    func sleep(milliseconds: UInt64) async
}
