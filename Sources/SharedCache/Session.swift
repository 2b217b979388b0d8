internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// One session: who owns it, what is on disk of it and, while it is resident, what is in memory.
///
/// `gate` lets one request at a time change it, in the order they came. Between an `await` and the next line only what the
/// gate does not guard may have changed: `staged` shrinks as chunks become durable.
@CacheLoop
final class Session {
    let owner: UInt32
    var name: SessionName
    let files: SessionFiles
    let gate = Gate()

    /// Nil while it is suspended.
    var resident: Resident?
    /// The one connection that may write, and its process.
    var writer: Connection?
    var readers = 0
    /// Milliseconds since 1970, on the loop's clock.
    var lastUsed: UInt64
    /// Its files are being moved away: chunks that cannot be written meanwhile are no fault.
    var isLeaving = false
    /// Its name is gone; requests that still wait at the gate are told so.
    var isDeleted = false

    /// Sealed chunks that are not on disk yet, by number.
    var staged: [Int: StagedChunk] = [:]
    /// Of those, the ones that nobody works on yet.
    var waiting: [StagedChunk] = []
    var spillsInFlight = 0
    /// Fires when `staged` shrinks or `fault` changes.
    let spillChanged = Signal()
    /// The disk may take now what it has refused.
    let diskChanged = Signal()
    /// Why its chunks are not becoming durable; nil while they are.
    var fault: CacheError?

    init(owner: UInt32, name: SessionName, files: SessionFiles, lastUsed: UInt64) {
        self.owner = owner
        self.name = name
        self.files = files
        self.lastUsed = lastUsed
    }

    var description: SessionDescription { files.description }
    var policy: Policy { description.policy }
    var geometry: Geometry { description.geometry }

    /// Logical length: what the writer has published counts.
    var tokens: Int { resident?.currentTokens ?? files.tokens }

    /// Nobody works with it now, so it can be suspended.
    var isIdle: Bool { resident != nil && writer == nil && gate.isOpen }
}

/// A session's presence in memory. A new one is made each time a session is resumed, so that handles from before are told apart.
@CacheLoop
final class Resident {
    let slabs: Slabs
    /// As of the last change of layout; the writer may have published more.
    var tokens: Int
    /// Sealed chunks recalled into the view, per layer and head.
    var recalled: [[Set<Int>]]
    /// The identity of each sealed chunk's object, durable or not.
    var chunkIDs: [ObjectID]
    /// The most tokens that the next commit may declare.
    var grant: Int
    /// Positions are written for tokens below this.
    var positionedTokens: Int
    /// Rows, per layer, that may have memory without being of the view: the writer may have touched them since pages were last
    /// given back, or the session whose files these were had them.
    var touchedRows: [Int]
    /// What the writer is bringing in by inlets.
    var delivery: Delivery?
    /// Bytes charged to the memory budget.
    var charged = 0

    nonisolated var layout: SlabLayout { slabs.layout }
    nonisolated var policy: Policy { slabs.layout.policy }
    nonisolated var geometry: Geometry { slabs.layout.geometry }

    init(slabs: Slabs, tokens: Int, touchedRows: [Int]) {
        self.slabs = slabs
        self.tokens = tokens
        let geometry = slabs.layout.geometry
        recalled = Array(repeating: Array(repeating: [], count: geometry.heads), count: geometry.layers)
        chunkIDs = []
        grant = tokens
        positionedTokens = 0
        self.touchedRows = touchedRows
    }

    /// The least count whose commit needs a message.
    var boundary: Int { min(policy.nextSeal(after: tokens), grant + 1) }

    /// The writer's claim, bounded: read from memory that a client writes, so it may be anything.
    var currentTokens: Int { Self.length(slabs.published, tokens: tokens, boundary: boundary) }

    nonisolated static func length(_ claim: UInt64, tokens: Int, boundary: Int) -> Int {
        claim > UInt64(tokens) && claim < UInt64(boundary) ? Int(claim) : tokens
    }

    var sealedChunks: Int { policy.sealedChunks(tokens: tokens) }

    /// Rows of `layer` to the left of row 0.
    func recalledRows(layer: Int) -> Int { (recalled[layer].first?.count ?? 0) * policy.evicted(inLayer: layer) }

    /// Bytes of memory that the session takes with `tokens` tokens, room up to `grant`, and what is recalled.
    func residentBytes(tokens: Int, grant: Int) -> Int {
        layout.residentBytes(
            rows: rows(tokens: tokens, grant: grant), grant: grant,
            recalled: (0..<geometry.layers).reduce(0) { $0 + recalledRows(layer: $1) })
    }

    /// Per layer, the rows from row 0 on that may have memory.
    private func rows(tokens: Int, grant: Int) -> [Int] {
        zip(layout.rows(tokens: tokens, grant: grant), touchedRows).map(max)
    }

    /// Ends its presence: what anybody still has of it is told so, and its memory serves another session, or is given back.
    func retire(_ state: ControlPage.State, into spares: SpareSlabs) {
        slabs.retire(state)
        guard !hasRecalled, slabs.isExclusive else { return slabs.discardAll() }
        let rows = rows(tokens: tokens, grant: grant)
        // A client that wrote where it was granted nothing has taken memory that no count knows of.
        let expected = layout.residentBytes(rows: rows, grant: grant, recalled: 0)
        guard let allocated = try? slabs.slab.allocatedBytes, allocated <= expected else { return slabs.discardAll() }
        spares.put(SpareSlabs.Spare(slabs, rows: rows, bytes: expected))
    }

    var hasRecalled: Bool { recalled.contains { $0.contains { !$0.isEmpty } } }

    /// Ends a change of layout that `slabs.beginChange` began.
    func publishLayout() {
        slabs.endChange(
            LayoutStanding(
                tokens: tokens, recalled: (0..<geometry.layers).map(recalledRows), boundary: boundary, grant: grant,
                lastChunk: chunkIDs.last ?? .none))
    }

    /// Writes the positions of the window's rows that have none yet, up to the boundary.
    func extendPositions() {
        let first = max(positionedTokens, policy.firstUnsealed(tokens: tokens))
        guard first < boundary - 1 else { return }
        for layer in 0..<geometry.layers {
            let row = first - policy.sealedChunks(tokens: tokens) * policy.evicted(inLayer: layer)
            for head in 0..<geometry.heads {
                slabs.setPositions(layer: layer, head: head, rows: row..<row + boundary - 1 - first, from: first)
            }
        }
        positionedTokens = boundary - 1
    }

    /// Notes that rows may be written, with a length of `tokens`, up to those for a length of `grant`.
    func touch(tokens: Int, grant: Int) { touchedRows = rows(tokens: tokens, grant: grant) }
}
