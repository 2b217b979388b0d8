import CacheModel
import WireProtocol

/// Random values of everything that travels: small sizes, but every field at times at its ends.
extension SeededNumbers {
    mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
    mutating func bool() -> Bool { Bool.random(using: &self) }

    /// A count that is often small, sometimes huge.
    mutating func count() -> Int { int(0...3) == 0 ? Int(next() >> 1) : int(0...100_000) }
    mutating func word() -> UInt32 { UInt32(truncatingIfNeeded: next()) }

    mutating func text(atMost limit: Int) -> String {
        let alphabet = ["a", "Z", "0", " ", "é", "字", "🦀", "\u{0}", "\""]
        var text = ""
        for _ in 0..<int(0...12) {
            let character = alphabet[int(0...alphabet.count - 1)]
            if text.utf8.count + character.utf8.count <= limit { text += character }
        }
        return text
    }

    mutating func name() throws -> SessionName {
        let allowed = Array("abcXYZ019_:@+=-.")
        let length = int(0...9) == 0 ? Limits.nameBytes : int(1...20)
        return try SessionName("s" + String((1..<length).map { _ in allowed[int(0...allowed.count - 1)] }))
    }

    mutating func owner() -> Owner { bool() ? .own : .user(word() >> 1) }
    mutating func reference() throws -> SessionReference { SessionReference(try name(), owner: owner()) }

    mutating func description() throws -> SessionDescription {
        let layers = int(1...Limits.layers)
        let uncompressed = (0..<layers).filter { _ in int(0...15) == 0 }
        return try SessionDescription(
            geometry: Geometry(
                layers: layers, heads: int(1...8), keyDim: int(1...64), valueDim: int(1...64),
                element: ElementType.allCases[int(0...ElementType.allCases.count - 1)]),
            policy: Policy(
                sink: int(0...64), lag: int(Limits.smallestLag...256), keepRatio: Double(int(1...1_000)) / 1_000,
                valueWeight: Double(int(0...4_000)) / 1_000, uncompressedLayers: uncompressed),
            capacity: int(1...Limits.tokens), fingerprint: text(atMost: Limits.fingerprintBytes), isShared: bool(),
            isDisposable: bool())
    }

    mutating func row() throws -> SessionRow {
        SessionRow(
            name: try name(), owner: word(), state: bool() ? .resident : .suspended, description: try description(),
            tokens: count(), sealedChunks: count(), durableTokens: count(), residentBytes: count(), diskBytes: count(),
            writer: word(), readers: word(), lastUsed: next(), created: next(), fault: text(atMost: SessionRow.faultBytes))
    }

    mutating func layout() -> SharedLayout {
        var layout = SharedLayout()
        layout.slabBytes = count()
        layout.controlBytes = count()
        layout.idsOffset = count()
        layout.layersOffset = count()
        layout.layerStride = count()
        layout.keyHeadStride = count()
        layout.valueHeadStride = count()
        layout.valuesOffset = count()
        layout.keyBase = count()
        layout.valueBase = count()
        layout.recallRows = count()
        layout.rows = count()
        layout.layerTableOffset = count()
        layout.positionsOffset = count()
        layout.positionsLayerStride = count()
        layout.positionsHeadStride = count()
        layout.summariesOffset = count()
        layout.summariesLayerStride = count()
        layout.summariesChunkStride = count()
        return layout
    }

    mutating func standing() -> Standing {
        Standing(tokens: count(), sealedChunks: count(), durableTokens: count(), generation: next())
    }

    mutating func choice() throws -> RecallChoice {
        let perHead = int(1...3)
        let chunks = (0..<int(1...4)).map { _ in (0..<perHead).map { _ in Int(word()) } }
        return try RecallChoice(layer: int(0...Limits.layers - 1), chunks: chunks)
    }

    mutating func request(_ verb: Verb) throws -> Request {
        switch verb {
        case .hello:
            .hello(
                Hello(
                    lowest: UInt16(int(0...9)), highest: UInt16(int(0...9)), client: text(atMost: Hello.nameBytes)))
        case .create: .create(try name(), try description())
        case .open: .open(try reference(), write: bool(), fingerprint: bool() ? text(atMost: Limits.fingerprintBytes) : nil)
        case .close: .close(handle: word())
        case .commit: .commit(handle: word(), tokens: count(), CommitOptions(rawValue: UInt32(int(0...3))))
        case .inlet: .inlet(handle: word(), after: count(), wanted: count())
        case .deliver: .deliver(handle: word(), tokens: count(), layers: Int(word()))
        case .sync: .sync(handle: word(), window: bool())
        case .full: .full(handle: word(), layer: Int(word()), again: word() % 2 == 0)
        case .recall:
            .recall(handle: word(), try (0..<int(0...3)).map { _ in try choice() })
        case .release: .release(handle: word())
        case .truncate: .truncate(handle: word(), tokens: count())
        case .fork: .fork(try reference(), as: try name(), tokens: bool() ? count() : nil)
        case .rename: .rename(try name(), to: try name())
        case .delete: .delete(try reference())
        case .suspend: .suspend(try reference())
        case .resume: .resume(try reference())
        case .show: .show(try reference())
        case .list: .list(everybody: bool(), after: bool() ? try reference() : nil)
        case .status: .status
        case .metrics: .metrics
        }
    }

    mutating func reply(_ verb: Verb) throws -> Reply {
        switch verb {
        case .hello: .hello(Welcome(version: UInt16(int(0...9)), daemon: text(atMost: Hello.nameBytes), processID: next()))
        case .create, .open:
            .attachment(Attachment(handle: word(), isWriter: bool(), row: try row(), layout: layout(), generation: next()))
        case .inlet:
            .inlet(
                InletGrant(inlet: word(), bytes: count(), chunk: count(), chunks: Int(word()), from: count(), until: count()))
        case .close, .rename, .delete, .deliver: .empty
        case .commit, .sync, .recall, .release, .truncate: .standing(standing())
        case .full:
            .full(
                FullLayout(
                    tokens: count(), keysOffset: count(), keyHeadStride: count(), valuesOffset: count(), valueHeadStride: count(),
                    idsOffset: count(), bytes: count()))
        case .fork, .suspend, .resume, .show: .row(try row())
        case .list: .rows(try (0..<int(0...3)).map { _ in try row() }, more: bool())
        case .status:
            .status((0..<int(0...5)).map { _ in StatusEntry(text(atMost: 100), text(atMost: 100)) })
        case .metrics: .metrics(text(atMost: 1_000))
        }
    }
}
