import CacheModel
import Testing
import WireProtocol

@Suite("bytes of strangers")
struct BadBytesTests {
    @Test("every truncation and every extension of a request is refused", arguments: Verb.allCases)
    func requestLengths(verb: Verb) throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            var numbers = SeededNumbers(seed: seed)
            let payload = try numbers.request(verb).encode()
            for bad in wrongLengths(of: payload) {
                #expect(throws: CacheError.self, "seed \(seed), \(bad.count) of \(payload.count) bytes") {
                    try Request(verb: verb.rawValue, payload: bad.span.bytes)
                }
            }
        }
    }

    @Test("every truncation and every extension of a reply is refused", arguments: Verb.allCases)
    func replyLengths(verb: Verb) throws {
        for seed in 1...5 as ClosedRange<UInt64> {
            var numbers = SeededNumbers(seed: seed)
            let payload = try numbers.reply(verb).encode()
            for bad in wrongLengths(of: payload) {
                #expect(throws: CacheError.self, "seed \(seed), \(bad.count) of \(payload.count) bytes") {
                    try Reply(verb: verb.rawValue, payload: bad.span.bytes)
                }
            }
        }
    }

    @Test("every truncation and every extension of an error and of a header is refused")
    func otherLengths() {
        for bad in wrongLengths(of: CacheError(.corrupt, "a", seen: "b", expected: "c").encode()) {
            #expect(throws: CacheError.self) { try CacheError(payload: bad.span.bytes) }
        }
        for bad in wrongLengths(of: Array(Request.status.frame(request: 1).prefix(16))) {
            #expect(throws: CacheError.self) { try FrameHeader(parsing: bad.span.bytes) }
        }
    }

    private func wrongLengths(of payload: [UInt8]) -> [[UInt8]] {
        (0..<payload.count).map { Array(payload[..<$0]) } + [payload + [0], payload + [255]]
    }

    @Test(
        "a header with a long payload, a reserved flag or half an error is refused",
        arguments: [
            (length: 1_048_577, flags: 0), (length: 0xFFFF_FFFF, flags: 0), (length: 0, flags: 2), (length: 0, flags: 4),
            (length: 0, flags: 0x8001),
        ])
    func badHeaders(length: Int, flags: Int) {
        var writer = ByteWriter()
        writer.int32(length)
        writer.u16(1)
        writer.u16(UInt16(flags))
        writer.u64(9)
        let bytes = writer.bytes
        let error = #expect(throws: CacheError.self) { try FrameHeader(parsing: bytes.span.bytes) }
        #expect(error?.code == .badFrame)
    }

    @Test("a verb that is none is refused by its number", arguments: [0, 22, 65_535] as [UInt16])
    func unknownVerbs(number: UInt16) {
        let empty: [UInt8] = []
        #expect(throws: CacheError(.unknownVerb, "a verb", seen: "\(number)", expected: "1 to 21")) {
            try Request(verb: number, payload: empty.span.bytes)
        }
    }

    @Test("a value that makes no sense gets the code that says so")
    func badValues() throws {
        var numbers = SeededNumbers(seed: 1)
        let create = try Request.create(SessionName("x"), numbers.description()).encode()
        // A name of one byte, then the description: layers, heads, key dim, value dim, element, sink, lag.
        expect(.limitExceeded, .create, create, with: [0, 0, 0, 0], at: 3)
        expect(.limitExceeded, .create, create, with: [1, 1, 0, 0], at: 3)
        expect(.limitExceeded, .create, create, with: [255, 255, 255, 255], at: 7)
        expect(.badRequest, .create, create, with: [0], at: 19)
        expect(.badRequest, .create, create, with: [6], at: 19)
        expect(.limitExceeded, .create, create, with: [1, 0, 0, 0], at: 24)
        expect(.limitExceeded, .create, create, with: Array(repeating: 255, count: 8), at: 28)
        expect(.badName, .create, create, with: [UInt8(ascii: "/")], at: 2)
        expect(.badFrame, .create, create, with: [0xFF], at: 2)
        expect(.badRequest, .create, create, with: [4], at: create.count - 4)
        expect(.badRequest, .commit, Request.commit(handle: 1, tokens: 2, []).encode(), with: [4], at: 12)
        expect(.limitExceeded, .commit, Request.commit(handle: 1, tokens: 2, []).encode(), with: [255], at: 11)
        expect(.badFrame, .sync, Request.sync(handle: 1, window: true).encode(), with: [2], at: 4)
        expect(.badVersion, .hello, Request.hello(Hello(client: "")).encode(), with: [0], at: 0)
        let open = Request.open(SessionReference(try SessionName("x")), write: true, fingerprint: "f").encode()
        expect(.badRequest, .open, open, with: [0], at: 8)
    }

    private func expect(
        _ code: ErrorCode, _ verb: Verb, _ payload: [UInt8], with bytes: [UInt8], at offset: Int,
        location: SourceLocation = #_sourceLocation
    ) {
        var bad = payload
        bad.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        let error = #expect(throws: CacheError.self, sourceLocation: location) {
            try Request(verb: verb.rawValue, payload: bad.span.bytes)
        }
        #expect(error?.code == code, sourceLocation: location)
    }

    @Test("a list that claims more entries than it has bytes is refused before anything is allocated")
    func hugeLists() {
        let recall: [UInt8] = [1, 0, 0, 0, 0, 1, 0, 0] + Array(repeating: 0, count: 64)
        let status: [UInt8] = [255, 255, 255, 255] + Array(repeating: 0, count: 64)
        // One choice for 256 heads of 2^32 − 1 chunks each.
        let chunks: [UInt8] = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 255, 255, 255, 255]
        #expect(throws: CacheError.self) { try Request(verb: Verb.recall.rawValue, payload: recall.span.bytes) }
        #expect(throws: CacheError.self) { try Request(verb: Verb.recall.rawValue, payload: chunks.span.bytes) }
        #expect(throws: CacheError.self) { try Reply(verb: Verb.status.rawValue, payload: status.span.bytes) }
    }

    @Test("no bytes whatever trap, and what is accepted means what it says", arguments: 1...8 as ClosedRange<UInt64>)
    func fuzz(seed: UInt64) throws {
        var numbers = SeededNumbers(seed: seed)
        var accepted = 0
        for _ in 0..<4_000 {
            let verb = Verb.allCases[numbers.int(0...Verb.allCases.count - 1)]
            var payload = numbers.bool() ? try numbers.request(verb).encode() : try numbers.reply(verb).encode()
            damage(&payload, &numbers)
            let bytes = payload
            if let request = try? Request(verb: verb.rawValue, payload: bytes.span.bytes) {
                accepted += 1
                #expect(try Request(verb: verb.rawValue, payload: request.encode().span.bytes) == request)
            }
            if let reply = try? Reply(verb: verb.rawValue, payload: bytes.span.bytes) {
                #expect(try Reply(verb: verb.rawValue, payload: reply.encode().span.bytes) == reply)
            }
            _ = try? CacheError(payload: bytes.span.bytes)
            if bytes.count >= 16 { _ = try? FrameHeader(parsing: bytes.span.bytes.extracting(first: 16)) }
        }
        #expect(accepted > 0, "seed \(seed): the fuzzer should also reach what lies behind the checks")
    }

    /// Flips, overwrites, cuts, repeats, or leaves alone.
    private func damage(_ payload: inout [UInt8], _ numbers: inout SeededNumbers) {
        for _ in 0..<numbers.int(0...3) where !payload.isEmpty {
            let place = numbers.int(0...payload.count - 1)
            switch numbers.int(0...4) {
            case 0: payload[place] ^= 1 << UInt8(numbers.int(0...7))
            case 1: payload[place] = [0, 1, 127, 128, 255][numbers.int(0...4)]
            case 2: payload.removeSubrange(place...)
            case 3: payload.insert(contentsOf: payload[place...].prefix(8), at: place)
            default: for index in place..<min(place + 4, payload.count) { payload[index] = 255 }
            }
        }
    }
}
