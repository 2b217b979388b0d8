import CLagKVKernels
import Testing

@Suite("a plane in tiers")
struct TiersTests {
    @Test("comes back, takes what was planned, and is the same with and without vector instructions")
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

    private typealias Encode = (UnsafeMutablePointer<UInt8>, Int, UnsafePointer<lagkv_tiers_t>, UnsafeMutablePointer<UInt8>) -> Void
    private typealias Decode =
        (UnsafePointer<UInt8>, Int, Int, UnsafeMutablePointer<UInt8>, Int, UnsafeMutablePointer<UInt8>) -> Int32

    private static func encoded(_ plane: [UInt8], _ encode: Encode) -> [UInt8] {
        var plan = lagkv_tiers_t()
        lagkv_tiers_plan(plane, plane.count, &plan)
        var work = plane + [UInt8](repeating: 0, count: lagkv_tiers_room(plane.count) - plane.count)
        var stored = [UInt8](repeating: 0xA5, count: plan.stored_bytes + 64)
        encode(&work, plane.count, &plan, &stored)
        #expect(stored[plan.stored_bytes...].allSatisfy { $0 == 0xA5 }, "written beyond what was planned")
        return Array(stored[..<plan.stored_bytes])
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
