import CLagKVKernels
import Testing

@Suite("a plane in tiers")
struct TiersTests {
    @Test("comes back, takes what was planned and no less, and is the same with and without vector instructions")
    func roundTrip() {
        for seed in 0..<600 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let plane = Self.plane(using: &generator)
            let stored = Self.encoded(plane, lagkv_tiers_encode)
            #expect(stored == Self.encoded(plane, lagkv_tiers_encode_portable), "seed \(seed)")
            #expect(Self.decoded(stored, plane.count, lagkv_tiers_decode) == plane, "seed \(seed)")
            #expect(Self.decoded(stored, plane.count, lagkv_tiers_decode_portable) == plane, "seed \(seed)")
        }
    }

    @Test("takes the fewest bytes that three symbols a tier allow")
    func symbols() {
        // 64 values: 40 of the first three, 14 of the next, 7 of the next, 2 of the next, and one that has no symbol.
        let counts = [(9, 20), (200, 12), (7, 8), (1, 7), (2, 4), (3, 3), (90, 3), (91, 2), (92, 2), (50, 1), (51, 1), (60, 1)]
        // As frequent ones in their order.
        let plane = counts.flatMap { [UInt8](repeating: UInt8($0.0), count: $0.1) }
        let stored = Self.encoded(plane, lagkv_tiers_encode)
        #expect(Array(stored[..<12]) == counts.map { UInt8($0.0) })
        #expect(stored.count == 12 + 4 * 16)
    }

    @Test("that is long is judged by a sample: within a fiftieth of its bytes, and any sample gives a plane that comes back")
    func sample() {
        for seed in 0..<20 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            // The exponents of normal numbers fall off by half from the largest down.
            let exponents = (0..<100_000).map { _ in
                UInt8(126 - min(100, UInt64.random(in: 0...UInt64.max, using: &generator).leadingZeroBitCount))
            }
            let plan = Self.plan(exponents)
            let stored = Self.stored(exponents, plan, room: exponents.count, lagkv_tiers_encode)!
            #expect(abs(stored.count - plan.likely_bytes) < stored.count / 50, "seed \(seed)")
            #expect(stored == Self.stored(exponents, plan, room: exponents.count, lagkv_tiers_encode_portable), "seed \(seed)")
            #expect(Self.decoded(stored, exponents.count, lagkv_tiers_decode) == exponents, "seed \(seed)")
            // A plan of other values stores nothing well, and refuses what has no room.
            let misled = Self.plan([UInt8](repeating: 0, count: 64))
            #expect(Self.stored(exponents, misled, room: exponents.count, lagkv_tiers_encode) == nil)
            let long = Self.stored(exponents, misled, room: 3 * exponents.count, lagkv_tiers_encode)!
            #expect(Self.decoded(long, exponents.count, lagkv_tiers_decode) == exponents)
        }
    }

    @Test("of any bytes is refused or decoded, the same with and without vector instructions, and nothing beyond it is written")
    func anyBytes() {
        var accepted = 0
        for seed in 0..<4_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let plane = Self.plane(using: &generator)
            var stored = Self.encoded(plane, lagkv_tiers_encode)
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                stored[.random(in: stored.indices, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            if Bool.random(using: &generator) { stored.removeLast(.random(in: 0...stored.count, using: &generator)) }
            let count = max(0, plane.count + Int.random(in: -2...2, using: &generator))
            let decoded = Self.decoded(stored, count, lagkv_tiers_decode)
            #expect(decoded == Self.decoded(stored, count, lagkv_tiers_decode_portable), "seed \(seed)")
            accepted += decoded == nil ? 0 : 1
        }
        print("forged tiers: \(accepted) of 4,000 are valid")
        #expect(accepted > 0 && accepted < 4_000)
    }

    /// Bytes of a few values or of many, some much more frequent than others.
    private static func plane(using generator: inout SeededGenerator) -> [UInt8] {
        let most = [0, 1, 2, 12, 30, 255].randomElement(using: &generator)!
        let values = Array((0...255 as ClosedRange<UInt8>).shuffled(using: &generator).prefix(most + 1))
        return (0..<Int.random(in: 0...700, using: &generator)).map { _ in
            values[.random(in: 0...(.random(in: 0...(.random(in: 0...most, using: &generator)), using: &generator)), using: &generator)]
        }
    }

    private typealias Encode =
        (UnsafeMutablePointer<UInt8>, Int, UnsafePointer<lagkv_tiers_t>, UnsafeMutablePointer<UInt8>, Int) -> Int
    private typealias Decode =
        (UnsafePointer<UInt8>, Int, Int, UnsafeMutablePointer<UInt8>, Int, UnsafeMutablePointer<UInt8>) -> Int32

    /// What is stored of a plane short enough to be counted whole. A byte less of room is refused.
    private static func encoded(_ plane: [UInt8], _ encode: Encode) -> [UInt8] {
        let plan = plan(plane)
        let stored = stored(plane, plan, room: plan.likely_bytes, encode)
        #expect(stored?.count == plan.likely_bytes, "other than planned")
        #expect(Self.stored(plane, plan, room: plan.likely_bytes - 1, encode) == nil, "where there is no room")
        return stored ?? []
    }

    private static func plan(_ plane: [UInt8]) -> lagkv_tiers_t {
        var plan = lagkv_tiers_t()
        lagkv_tiers_plan(plane, plane.count, &plan)
        return plan
    }

    /// Nil where the room does not suffice.
    private static func stored(_ plane: [UInt8], _ plan: lagkv_tiers_t, room: Int, _ encode: Encode) -> [UInt8]? {
        var (plan, work) = (plan, plane + [UInt8](repeating: 0, count: lagkv_tiers_room(plane.count) - plane.count))
        var stored = [UInt8](repeating: 0xA5, count: room + 64)
        let count = encode(&work, plane.count, &plan, &stored, room)
        #expect(stored[room...].allSatisfy { $0 == 0xA5 }, "written beyond the room")
        return count == 0 ? nil : Array(stored[..<count])
    }

    private static func decoded(_ stored: [UInt8], _ count: Int, _ decode: Decode) -> [UInt8]? {
        let room = lagkv_tiers_room(count)
        var plane = [UInt8](repeating: 0, count: room) + [0xA5]
        var work = [UInt8](repeating: 0, count: 2 * room) + [0xA5]
        let isValid = decode(stored, stored.count, 0, &plane, count, &work) != 0
        #expect(plane.last == 0xA5 && work.last == 0xA5, "written beyond the room")
        return isValid ? Array(plane[..<count]) : nil
    }
}
