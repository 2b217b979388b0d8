import CacheModel
import Foundation
import Testing
import WireProtocol

/// The frames of `golden.hex` were written down from PROTOCOL.md without this code; both must say the same.
@Suite("golden frames")
struct GoldenTests {
    private let golden: [String: [UInt8]]
    private let description: SessionDescription
    private let row: SessionRow

    init() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "golden.hex")
        golden = try Self.frames(of: String(contentsOf: file, encoding: .utf8))
        description = try SessionDescription(
            geometry: Geometry(layers: 30, heads: 3, keyDim: 64, valueDim: 64, element: .bfloat16),
            policy: Policy(sink: 16, lag: 128, keepRatio: 0.25, uncompressedLayers: [0, 29]), capacity: 8_192,
            fingerprint: "SmolLM2-135M-Instruct", isShared: true)
        row = SessionRow(
            name: try SessionName("chat-42"), owner: 1_000, state: .resident, description: description, tokens: 2_048,
            sealedChunks: 14, durableTokens: 2_000, residentBytes: 13_516_800, diskBytes: 30_000_000, writer: 4_242, readers: 2,
            lastUsed: 1_795_000_000_123, created: 1_794_000_000_456, fault: "EIO")
    }

    private static func frames(of text: String) throws -> [String: [UInt8]] {
        var frames: [String: [UInt8]] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let parts = line.split(separator: ": ")
            let digits = Array(parts[1])
            frames[String(parts[0])] = try stride(from: 0, to: digits.count, by: 2).map {
                try #require(UInt8(String(digits[$0...$0 + 1]), radix: 16))
            }
        }
        return frames
    }

    @Test("requests are the bytes that the protocol says")
    func requests() throws {
        let name = try SessionName("chat-42")
        let own = SessionReference(name)
        let theirs = SessionReference(name, owner: .user(1_000))
        try check(.hello(Hello(client: "golden 1.0")), request: 1)
        try check(.create(name, description), request: 2)
        try check(.open(own, write: true, fingerprint: "SmolLM2-135M-Instruct"), request: 3)
        try check(.commit(handle: 7, tokens: 272, [.delivered, .durable]), request: 0x0102_0304_0506_0708)
        try check(.recall(handle: 7, [RecallChoice(layer: 9, chunks: [[0, 1], [2, 3], [4, 5]])]), request: 5)
        try check(.fork(theirs, as: try SessionName("chat-43"), tokens: nil), request: 6)
        try check(.list(everybody: true, after: theirs), request: 7)
        try check(.metrics, request: 8)
        try check(.inlet(handle: 7, after: 2_048, wanted: 4_096), request: 9)
        try check(.deliver(handle: 7, tokens: 4_096, layers: 16), request: 10)
    }

    private func check(_ request: Request, request identifier: UInt64) throws {
        let bytes = try #require(golden["request \(request.verb.name)"])
        #expect(request.frame(request: identifier) == bytes, "\(request.verb.name)")
        let payload = Array(bytes.dropFirst(FrameHeader.byteCount))
        #expect(try Request(verb: request.verb.rawValue, payload: payload.span.bytes) == request)
    }

    @Test("replies are the bytes that the protocol says")
    func replies() throws {
        var layout = SharedLayout()
        layout.slabBytes = 4_096
        layout.controlBytes = 2 * 4_096
        layout.idsOffset = 3 * 4_096
        layout.layersOffset = 4 * 4_096
        layout.layerStride = 5 * 4_096
        layout.keyHeadStride = 6 * 4_096
        layout.valueHeadStride = 7 * 4_096
        layout.valuesOffset = 8 * 4_096
        layout.keyBase = 9 * 4_096
        layout.valueBase = 10 * 4_096
        layout.recallRows = 11 * 4_096
        layout.rows = 12 * 4_096
        layout.layerTableOffset = 13 * 4_096
        layout.positionsOffset = 14 * 4_096
        layout.positionsLayerStride = 15 * 4_096
        layout.positionsHeadStride = 16 * 4_096
        layout.summariesOffset = 17 * 4_096
        layout.summariesLayerStride = 18 * 4_096
        layout.summariesChunkStride = 19 * 4_096
        try check(.hello(Welcome(daemon: "lagkvd 1.0", processID: 4_242)), .hello, request: 1)
        try check(.attachment(Attachment(handle: 7, isWriter: true, row: row, layout: layout, generation: 8)), .open, request: 3)
        try check(.standing(Standing(tokens: 272, sealedChunks: 1, durableTokens: 272, generation: 2)), .commit, request: 4)
        let full = FullLayout(
            tokens: 2_048, keysOffset: 0, keyHeadStride: 262_144, valuesOffset: 786_432, valueHeadStride: 262_144,
            idsOffset: 1_572_864, bytes: 1_581_056)
        try check(.full(full), .full, request: 5)
        try check(.rows([row], more: false), .list, request: 6)
        try check(.status([StatusEntry("sessions", "3")]), .status, request: 7)
        try check(.metrics("# EOF\n"), .metrics, request: 8)
        let inlet = InletGrant(inlet: 3, bytes: 18_878_464, chunk: 14, chunks: 2, from: 2_048, until: 2_064)
        try check(.inlet(inlet), .inlet, request: 9)
        try check(.empty, .deliver, request: 10)
    }

    private func check(_ reply: Reply, _ verb: Verb, request identifier: UInt64) throws {
        let bytes = try #require(golden["reply \(verb.name)"])
        #expect(reply.frame(verb: verb, request: identifier) == bytes, "\(verb.name)")
        let payload = Array(bytes.dropFirst(FrameHeader.byteCount))
        #expect(try Reply(verb: verb.rawValue, payload: payload.span.bytes) == reply)
    }

    @Test("errors are the bytes that the protocol says")
    func errors() throws {
        let error = CacheError(.writerBusy, "the writer's lease", seen: "process 4242")
        let bytes = try #require(golden["error open"])
        #expect(error.frame(verb: Verb.open.rawValue, request: 9) == bytes)
        #expect(try CacheError(payload: bytes.span.bytes.extracting(droppingFirst: 16)) == error)
    }

    @Test("the specification's tables and this code number verbs and errors alike")
    func numbers() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Sources/WireProtocol/PROTOCOL.md")
        let text = try String(contentsOf: file, encoding: .utf8)
        for code in ErrorCode.allCases { #expect(text.contains("| \(code.rawValue) | \(code.name) |"), "\(code.name)") }
        for verb in Verb.allCases { #expect(text.contains("| \(verb.rawValue) | \(verb.name) |"), "\(verb.name)") }
        for limit in ["1,048,576", "16,777,216", "1–256, 1–256, 1–1,024, 1–1,024"] { #expect(text.contains(limit)) }
    }

    @Test("the control page's magic is the bytes LAGKVCTL")
    func magic() {
        #expect(withUnsafeBytes(of: ControlPage.magic.littleEndian) { Array($0) } == Array("LAGKVCTL".utf8))
    }
}
