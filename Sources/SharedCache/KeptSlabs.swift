internal import CacheModel
public import ChunkStore
public import LinuxKit
internal import WireProtocol

/// The two files of a session that was resident when an earlier daemon died, mapped for reading.
public struct KeptSlabs: Sendable {
    public let id: ObjectID
    let slab: any MemoryRegion
    private let control: any MemoryRegion

    public init(id: ObjectID, slab: any MemoryRegion, control: any MemoryRegion) {
        self.id = id
        self.slab = slab
        self.control = control
    }

    /// The last sealed chunk's object; `none` where none is sealed.
    var lastChunk: ObjectID {
        ObjectID(
            high: control.loadRelaxed(at: ControlPage.lastChunkOffset), low: control.loadRelaxed(at: ControlPage.lastChunkOffset + 8))
    }

    /// What there is to be found in it.
    enum Content {
        /// The session had left this memory, or is on disk as it lies here.
        case nothing
        /// Why it cannot be relied upon.
        case unusable(String)
        /// The unsealed tokens, as they were appended, those included that the writer has published since.
        case window(Range<Int>)
    }

    /// What the files themselves say. The daemon's words stand in the control file, which nobody else could write.
    func content(_ layout: SlabLayout) -> Content {
        guard
            slab.byteCount == layout.wire.slabBytes, control.byteCount == layout.wire.controlBytes,
            control.load(at: ControlPage.magicOffset, as: UInt64.self) == ControlPage.magic,
            control.load(at: ControlPage.versionOffset, as: UInt32.self) == ControlPage.layoutVersion
        else { return .unusable("what was kept of its memory is in another layout than \(ControlPage.layoutVersion)") }
        guard control.load(at: ControlPage.stateOffset, as: UInt32.self) == ControlPage.State.resident.rawValue else { return .nothing }
        guard control.loadAcquire(at: ControlPage.generationOffset).isMultiple(of: 2) else {
            return .unusable("the daemon died while it sealed a chunk, or changed the layout otherwise")
        }
        let tokens = Int(control.loadRelaxed(at: ControlPage.tokensOffset))
        let boundary = Int(control.loadRelaxed(at: ControlPage.boundaryOffset))
        let claim = slab.loadAcquire(at: SlabPage.publishedOffset)
        return .window(layout.policy.firstUnsealed(tokens: tokens)..<Resident.length(claim, tokens: tokens, boundary: boundary))
    }
}
