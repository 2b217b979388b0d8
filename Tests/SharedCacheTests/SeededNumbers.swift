/// SplitMix64: the same numbers from the same seed, everywhere.
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return Self.mixed(state)
    }

    /// A number that looks random and depends on `word` alone.
    static func mixed(_ word: UInt64) -> UInt64 {
        var word = word
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }

    mutating func number(in range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// True once in `count` times.
    mutating func once(in count: Int) -> Bool { number(in: 1...count) == 1 }

    mutating func perThousand(_ share: Int) -> Bool { share > 0 && number(in: 1...1_000) <= share }

    mutating func pick<Element>(_ elements: some RandomAccessCollection<Element>) -> Element {
        elements.randomElement(using: &self)!
    }
}
