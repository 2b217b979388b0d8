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

    /// The unsealed tokens that lie there as they were appended, those included that the writer has published since; nil when the
    /// session had left this memory.
    ///
    /// What the daemon says stands in the control file, which nobody else could write.
    /// - Throws: `corrupt` where it cannot be relied upon: a file of another layout, or one whose layout was being changed.
    func unsealed(_ layout: SlabLayout) throws(CacheError) -> Range<Int>? {
        guard
            slab.byteCount == layout.wire.slabBytes, control.byteCount == layout.wire.controlBytes,
            control.load(at: ControlPage.magicOffset, as: UInt64.self) == ControlPage.magic,
            control.load(at: ControlPage.versionOffset, as: UInt32.self) == ControlPage.layoutVersion
        else {
            throw CacheError(
                .corrupt, "what was kept of a session's memory", seen: "files of \(slab.byteCount) and \(control.byteCount) bytes",
                expected: "\(layout.wire.slabBytes) and \(layout.wire.controlBytes) bytes, in layout \(ControlPage.layoutVersion)")
        }
        guard control.load(at: ControlPage.stateOffset, as: UInt32.self) == ControlPage.State.resident.rawValue else { return nil }
        guard control.loadAcquire(at: ControlPage.generationOffset).isMultiple(of: 2) else {
            throw CacheError(
                .corrupt, "what was kept of a session's memory", seen: "a change of layout under way", expected: "one that has ended")
        }
        let tokens = Int(control.loadRelaxed(at: ControlPage.tokensOffset))
        let boundary = Int(control.loadRelaxed(at: ControlPage.boundaryOffset))
        let claim = slab.loadAcquire(at: SlabPage.publishedOffset)
        return layout.policy.firstUnsealed(tokens: tokens)..<Resident.length(claim, tokens: tokens, boundary: boundary)
    }
}
