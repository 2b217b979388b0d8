internal import CacheModel
internal import Glibc
internal import LinuxKit
internal import WireProtocol

/// The control file as a client reads it: words that the daemon may be changing, told apart by a generation that is odd
/// while it does.
struct ControlFile {
    let file: MappedFile
    let layout: SharedLayout

    /// - Throws: `badReply` if it is not a control file of the version that this code reads.
    init(_ file: MappedFile, _ layout: SharedLayout) throws(ClientError) {
        self.file = file
        self.layout = layout
        guard file.loadRelaxed(at: ControlPage.magicOffset) == ControlPage.magic, version == ControlPage.layoutVersion else {
            throw .badReply(
                CacheError(
                    .badVersion, "a control file", seen: "version \(version)", expected: "version \(ControlPage.layoutVersion)"))
        }
    }

    private var version: UInt32 { UInt32(truncatingIfNeeded: file.loadRelaxed(at: ControlPage.versionOffset)) }
    /// The upper half of the word that begins with the version.
    var state: UInt32 { UInt32(truncatingIfNeeded: file.loadRelaxed(at: ControlPage.versionOffset) >> 32) }
    var generation: UInt64 { file.loadAcquire(at: ControlPage.generationOffset) }
    var durableTokens: Int { count(ControlPage.durableTokensOffset) }

    /// A count of the daemon's. One that no `Int` holds cannot be right, and is too large for every check that follows.
    private func count(_ offset: Int) -> Int { Int(clamping: file.loadRelaxed(at: offset)) }

    /// The words before the layer table.
    struct Header {
        var generation: UInt64
        var tokens: Int
        var sealedChunks: Int
        var boundary: Int
        var grant: Int
    }

    /// To be called between two looks at the generation.
    func header(_ generation: UInt64) -> Header {
        Header(
            generation: generation, tokens: count(ControlPage.tokensOffset), sealedChunks: count(ControlPage.sealedChunksOffset),
            boundary: count(ControlPage.boundaryOffset), grant: count(ControlPage.grantOffset))
    }

    struct LayerRows {
        /// Resident rows at `Header.tokens`, without recalled ones.
        var rows: Int
        /// Rows to the left of row 0.
        var recalled: Int
    }

    func layer(_ layer: Int) -> LayerRows {
        let entry = layout.layerEntry(layer)
        return LayerRows(rows: count(entry + ControlPage.rowsInEntry), recalled: count(entry + ControlPage.recalledInEntry))
    }

    /// Runs `body` until the daemon changed nothing meanwhile.
    /// - Parameter whileWaiting: called now and then when it takes long, to throw if there is nobody left to wait for.
    func consistently<Value>(
        whileWaiting: () throws(ClientError) -> Void, _ body: (UInt64) throws(ClientError) -> Value
    ) throws(ClientError) -> Value {
        var rounds = 0
        while true {
            let before = generation
            if before % 2 == 0 {
                guard state == ControlPage.State.resident.rawValue else { throw .refused(gone) }
                let value = try body(before)
                Fence.acquire()
                if file.loadRelaxed(at: ControlPage.generationOffset) == before { return value }
            }
            rounds += 1
            if rounds % Self.roundsBetweenLooks == 0 { try whileWaiting() }
            // A change takes microseconds to milliseconds: spinning first, sleeping later, wins nothing worth its lines.
            if rounds < Self.roundsBeforeSleep { sched_yield() } else { usleep(100) }
        }
    }

    private static let roundsBeforeSleep = 100
    /// About half a second.
    private static let roundsBetweenLooks = 5_000

    private var gone: CacheError {
        let name = ControlPage.State(rawValue: state).map { "\($0)" } ?? "in state \(state)"
        return CacheError(.badHandle, "a session that is no longer in memory", seen: name, expected: "resident: open it again")
    }
}
