/// Randomness as a parameter: the kernel's in the daemon, a seed's in the simulator.
@CacheLoop
public final class Entropy {
    private var generator: any RandomNumberGenerator

    public init(_ generator: any RandomNumberGenerator) {
        self.generator = generator
    }

    public func next() -> UInt64 { generator.next() }
}
