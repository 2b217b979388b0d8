internal import CacheLoop
internal import LinuxKit

/// Files of sessions that are suspended or gone, with their memory, for the next session of the same layout.
///
/// Pages of shared memory cost microseconds each to take from the system, more than decoding what goes into them; a daemon
/// that suspends one session to resume another would take and give back the same pages over and over. Kept are only files
/// that nobody else can reach (`Slabs.isExclusive`), and they are wiped before they are used again, so that a session never
/// sees another's bytes. Their memory counts in the budget, and they are the first to go when it is short.
@CacheLoop
final class SpareSlabs {
    private var spares: [Spare] = []
    private var trims: UInt64 = 0

    /// Files, and what they hold.
    struct Spare {
        let slabs: Slabs
        /// Per layer, the rows from row 0 on that may have memory.
        let rows: [Int]
        /// As the session was charged for them.
        let bytes: Int
        fileprivate var since: UInt64 = 0

        init(_ slabs: Slabs, rows: [Int], bytes: Int) {
            self.slabs = slabs
            self.rows = rows
            self.bytes = bytes
        }
    }

    /// Bytes of memory that all of them take.
    var bytes: Int { spares.reduce(0) { $0 + $1.bytes } }

    func put(_ spare: Spare) {
        var spare = spare
        spare.since = trims
        spares.append(spare)
    }

    /// The one that `take` would give.
    func find(_ layout: SlabLayout) -> Spare? { spares.last { $0.slabs.layout == layout } }

    func take(_ layout: SlabLayout) -> Spare? {
        guard let index = spares.lastIndex(where: { $0.slabs.layout == layout }) else { return nil }
        return spares.remove(at: index)
    }

    /// Gives back the memory of the oldest, but not of the one that `take` would give for `layout`.
    /// - Returns: false when there is none.
    func dropOldest(sparing layout: SlabLayout?) -> Bool {
        let spared = layout.flatMap { layout in spares.lastIndex { $0.slabs.layout == layout } }
        guard let index = spares.indices.first(where: { $0 != spared }) else { return false }
        drop(spares.remove(at: index))
        return true
    }

    /// Gives back what nobody has wanted for `calls` calls of this.
    func trim(after calls: UInt64) {
        trims += 1
        spares.filter { $0.since + calls < trims }.forEach(drop)
        spares.removeAll { $0.since + calls < trims }
    }

    private func drop(_ spare: Spare) { spare.slabs.discardAll() }
}
