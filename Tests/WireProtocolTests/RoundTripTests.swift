import CacheModel
import Testing
import WireProtocol

/// A seed per test case, so that a failure names its own.
private let seeds: [UInt64] = Array(1...40)

@Suite("every value that travels")
struct RoundTripTests {
    @Test("a request comes back from its frame as it was", arguments: Verb.allCases, seeds)
    func requests(verb: Verb, seed: UInt64) throws {
        var numbers = SeededNumbers(seed: seed)
        let request = try numbers.request(verb)
        let identifier = numbers.next()
        let frame = request.frame(request: identifier)
        let header = try FrameHeader(parsing: frame.span.bytes.extracting(first: FrameHeader.byteCount))
        #expect(header == FrameHeader(length: frame.count - 16, verb: verb.rawValue, request: identifier))
        #expect(try Request(verb: header.verb, payload: frame.span.bytes.extracting(droppingFirst: 16)) == request)
        #expect(Array(frame[16...]) == request.encode())
    }

    @Test("a reply comes back from its frame as it was", arguments: Verb.allCases, seeds)
    func replies(verb: Verb, seed: UInt64) throws {
        var numbers = SeededNumbers(seed: seed)
        let reply = try numbers.reply(verb)
        let identifier = numbers.next()
        let frame = reply.frame(verb: verb, request: identifier)
        let header = try FrameHeader(parsing: frame.span.bytes.extracting(first: FrameHeader.byteCount))
        #expect(header == FrameHeader(length: frame.count - 16, verb: verb.rawValue, flags: .reply, request: identifier))
        #expect(try Reply(verb: header.verb, payload: frame.span.bytes.extracting(droppingFirst: 16)) == reply)
        #expect(Array(frame[16...]) == reply.encode())
    }

    @Test("an error comes back from its frame as it was", arguments: ErrorCode.allCases)
    func errors(code: ErrorCode) throws {
        let error = CacheError(code, "a thing", seen: "schräg", expected: "gerade")
        let frame = error.frame(verb: 77, request: 5)
        let header = try FrameHeader(parsing: frame.span.bytes.extracting(first: FrameHeader.byteCount))
        #expect(header.flags == [.reply, .error])
        #expect(header.verb == 77)
        #expect(try CacheError(payload: frame.span.bytes.extracting(droppingFirst: 16)) == error)
    }

    @Test("an error's long texts are cut between two characters")
    func longTexts() throws {
        let error = CacheError(.badName, String(repeating: "é", count: 5_000), seen: "x" + String(repeating: "🦀", count: 500))
        let back = try CacheError(payload: error.encode().span.bytes)
        #expect(back.message == String(repeating: "é", count: 512))
        #expect(back.seen == "x" + String(repeating: "🦀", count: 255))
    }

    @Test("a page of the longest rows fits one frame")
    func longestPage() throws {
        let description = try SessionDescription(
            geometry: Geometry(layers: 256, heads: 1, keyDim: 1, valueDim: 1, element: .float8e4m3),
            policy: Policy(sink: 0, lag: 2, keepRatio: 0.5, uncompressedLayers: Array(0..<256)), capacity: 1,
            fingerprint: String(repeating: "f", count: Limits.fingerprintBytes))
        let row = SessionRow(
            name: try SessionName(String(repeating: "n", count: Limits.nameBytes)), owner: 0, state: .resident,
            description: description, tokens: 0, sealedChunks: 0, durableTokens: 0, residentBytes: 0, diskBytes: 0, writer: 0,
            readers: 0, lastUsed: 0, created: 0, fault: String(repeating: "!", count: 10_000))
        let page = Reply.rows(Array(repeating: row, count: Limits.rowsPerPage), more: true)
        #expect(page.encode().count <= Limits.frameBytes)
        guard case .rows(let rows, true) = try Reply(verb: Verb.list.rawValue, payload: page.encode().span.bytes) else {
            Issue.record("not a page of rows")
            return
        }
        #expect(rows.count == Limits.rowsPerPage)
        #expect(rows[0].fault.utf8.count == SessionRow.faultBytes)
    }
}
