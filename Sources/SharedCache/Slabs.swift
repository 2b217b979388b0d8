internal import CacheModel
internal import ChunkStore
internal import LinuxKit
internal import WireProtocol

/// The two shared files of one resident session, and the only code that writes the control file.
///
/// Invariants:
/// - `generation` is even whenever no change of layout is under way, and every change makes it odd first and even last
///   (a reader that saw it even and unchanged saw no half of a change).
/// - Nothing is read from the slab file that decides anything, but the published count, once, bounded.
final class Slabs: Sendable {
    let layout: SlabLayout
    /// Client-writable: rows, ids, the published count.
    let slab: SharedMemory
    let slabSlice: MemorySlice
    /// Client-readable: what the daemon says.
    let control: SharedMemory

    /// A session's files, empty. Costs no memory until rows are written.
    init(layout: SlabLayout) throws(CacheError) {
        self.layout = layout
        do {
            slab = try SharedMemory.create(name: "lagkv-slab", byteCount: layout.wire.slabBytes)
            slabSlice = MemorySlice(slab)
            control = try SharedMemory.create(
                name: "lagkv-control", byteCount: layout.wire.controlBytes, sealedAgainstNewWriters: true)
        } catch {
            throw CacheError(.outOfResources, "shared memory for the session", seen: "\(error)")
        }
        begin()
    }

    /// The files of a session that is gone, which were wiped, for another of the same layout.
    init(reusing old: Slabs) {
        layout = old.layout
        slab = old.slab
        slabSlice = old.slabSlice
        control = old.control
        begin()
    }

    private func begin() {
        control.store(ControlPage.magic, at: ControlPage.magicOffset)
        control.store(ControlPage.layoutVersion, at: ControlPage.versionOffset)
        control.store(ControlPage.State.resident.rawValue, at: ControlPage.stateOffset)
    }

    /// The writer's count as it stands there now: a claim.
    var published: UInt64 { slab.loadAcquire(at: SlabPage.publishedOffset) }

    var generation: UInt64 { control.loadAcquire(at: ControlPage.generationOffset) }

    /// Makes the generation odd: from here to `endChange` readers wait or start over.
    func beginChange() {
        let now = generation
        precondition(now.isMultiple(of: 2), "a change of layout inside a change of layout")
        control.storeRelease(now + 1, at: ControlPage.generationOffset)
        Fence.release()
    }

    /// Publishes a new standing and makes the generation even.
    func endChange(_ standing: LayoutStanding) {
        precondition(!generation.isMultiple(of: 2), "the end of a change of layout that never began")
        for layer in 0..<layout.geometry.layers {
            let rows = layout.policy.residentTokens(tokens: standing.tokens, layer: layer)
            let entry = layout.wire.layerTableOffset + layer * ControlPage.layerEntryBytes
            control.storeRelaxed(UInt64(rows), at: entry + ControlPage.rowsInEntry)
            control.storeRelaxed(UInt64(standing.recalled[layer]), at: entry + ControlPage.recalledInEntry)
        }
        control.storeRelaxed(UInt64(standing.tokens), at: ControlPage.tokensOffset)
        control.storeRelaxed(UInt64(layout.policy.sealedChunks(tokens: standing.tokens)), at: ControlPage.sealedChunksOffset)
        control.storeRelaxed(UInt64(standing.boundary), at: ControlPage.boundaryOffset)
        control.storeRelaxed(UInt64(standing.grant), at: ControlPage.grantOffset)
        control.storeRelaxed(standing.lastChunk.high, at: ControlPage.lastChunkOffset)
        control.storeRelaxed(standing.lastChunk.low, at: ControlPage.lastChunkOffset + 8)
        slab.storeRelease(UInt64(standing.tokens), at: SlabPage.publishedOffset)
        control.storeRelease(generation + 1, at: ControlPage.generationOffset)
    }

    func publishDurable(tokens: Int) {
        control.storeRelease(UInt64(tokens), at: ControlPage.durableTokensOffset)
    }

    /// Tells everybody who has the files mapped that they are no longer the session.
    func retire(_ state: ControlPage.State) {
        beginChange()
        control.store(state.rawValue, at: ControlPage.stateOffset)
        control.storeRelease(generation + 1, at: ControlPage.generationOffset)
    }

    /// Gives the slabs' memory back at once, whoever still maps them: such mappings stay valid and read zero. (The control
    /// file's pages, sealed against new writers, go with their last mapping.)
    func discardAll() { discard(0..<layout.wire.slabBytes) }

    /// Nobody but the daemon can reach the files any more.
    var isExclusive: Bool { slab.isExclusive && control.isExclusive }

    /// Takes memory for rows `rows` of every head of `layer`.
    func populate(layer: Int, rows: Range<Int>) {
        for head in 0..<layout.geometry.heads {
            slab.populate(layout.keys(layer: layer, head: head, rows: rows))
            slab.populate(layout.values(layer: layer, head: head, rows: rows))
        }
    }

    /// Gives back the pages of rows `rows` of every head of `layer`. Behind them lie only rows that nobody has touched, so the
    /// last page goes as a whole; the first stays if other rows begin it.
    func discard(layer: Int, rows: Range<Int>) {
        guard !rows.isEmpty else { return }
        for head in 0..<layout.geometry.heads {
            for bytes in [layout.keys(layer: layer, head: head, rows: rows), layout.values(layer: layer, head: head, rows: rows)] {
                discard(bytes.lowerBound..<AlignedBuffer.roundedUp(bytes.upperBound))
            }
        }
    }

    /// Gives back the pages of everything to the left of the `kept` recalled rows next to row 0, which begins a page, in every
    /// head of `layer`.
    func discardRecalled(layer: Int, butFor kept: Int = 0) {
        for head in 0..<layout.geometry.heads {
            let (key, value) = (layout.wire.keys(layer: layer, head: head), layout.wire.values(layer: layer, head: head))
            discard(key - layout.wire.keyBase..<key - kept * layout.geometry.keyBytes)
            discard(value - layout.wire.valueBase..<value - kept * layout.geometry.valueBytes)
        }
    }

    private func discard(_ bytes: Range<Int>) {
        do {
            try slab.discard(bytes)
        } catch {
            // A hole in a memfd of our own, of whole pages inside it, fails for no reason that the world could give.
            fatalError("giving back \(bytes) of a slab file: \(error)")
        }
    }

    /// The summaries of one sealed chunk: per layer lo of all heads, then hi.
    func summaries(chunk: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(layout.geometry.layers * layout.wire.summariesChunkStride)
        for layer in 0..<layout.geometry.layers {
            control.withUnsafeBytes(layout.summary(layer: layer, chunk: chunk)) { bytes.append(contentsOf: $0) }
        }
        return bytes
    }

    /// Writes the positions of rows `rows` of one head as consecutive numbers from `first`.
    func setPositions(layer: Int, head: Int, rows: Range<Int>, from first: Int) {
        control.withUnsafeMutableBytes(layout.positions(layer: layer, head: head, rows: rows)) { positions in
            for index in 0..<rows.count {
                positions.storeBytes(of: Int32(first + index), toByteOffset: 4 * index, as: Int32.self)
            }
        }
    }
}

/// What the control file says of a resident session's length.
struct LayoutStanding: Sendable {
    var tokens: Int
    /// Rows to the left of row 0, per layer.
    var recalled: [Int]
    /// The least count whose commit needs a message.
    var boundary: Int
    /// The most tokens the next commit may declare.
    var grant: Int
    /// The last sealed chunk's object.
    var lastChunk: ObjectID
}
