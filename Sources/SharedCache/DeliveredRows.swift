internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// What a delivery leaves in memory, and where: the kept tokens of the chunks that it seals, then the window.
///
/// The rows are brought in two parts. Those behind the rows that the session shows go to their places while the delivery is
/// still under way and the chunk is still in the caches: nobody sees them before the commit. Those that others are among must
/// wait for it.
struct DeliveredRows: Sendable {
    let slabs: Slabs
    /// The session's length before and after.
    let tokens: Range<Int>
    /// Those of the delivery, from the first that was not sealed before on.
    let chunks: [RawChunk]

    private var policy: Policy { slabs.layout.policy }

    /// The number of `chunks[0]`.
    var first: Int { policy.sealedChunks(tokens: tokens.lowerBound) }

    /// How many of `chunks` are sealed.
    var sealed: Int { policy.sealedChunks(tokens: tokens.upperBound) - first }

    /// How many rows of `layer` the session shows before the commit.
    func shown(layer: Int) -> Int { policy.residentTokens(tokens: tokens.lowerBound, layer: layer) }

    /// The row of the first token of `chunks[index]`, and of those after it if it is of the window.
    func row(_ index: Int, layer: Int) -> Int {
        first + index == 0 ? 0 : slabs.layout.firstRow(ofChunk: first + index, layer: layer)
    }

    /// Brings the tokens that `chunks[index]` keeps in one head, as far as their rows are in `rows`.
    func bring(_ kept: Span<UInt32>, of index: Int, layer: Int, head: Int, to rows: Range<Int>) {
        let (chunk, target, geometry) = (chunks[index], row(index, layer: layer), slabs.layout.geometry)
        let own = (target..<target + kept.count).clamped(to: rows)
        guard !own.isEmpty else { return }
        func gather(_ rowBytes: Int, from source: Int, to place: Int) {
            for row in own {
                let at = source + Int(kept[row - target]) * rowBytes
                slabs.slab.copy(at..<at + rowBytes, of: chunk.buffer, to: place + (row - own.lowerBound) * rowBytes)
            }
        }
        gather(
            geometry.keyBytes, from: chunk.keys(layer: layer, head: head).lowerBound,
            to: slabs.layout.keys(layer: layer, head: head, rows: own).lowerBound)
        gather(
            geometry.valueBytes, from: chunk.values(layer: layer, head: head).lowerBound,
            to: slabs.layout.values(layer: layer, head: head, rows: own).lowerBound)
    }

    /// Brings the window of one head, as far as its rows are in `rows`.
    func bringWindow(layer: Int, head: Int, to rows: Range<Int>) {
        var target = row(sealed, layer: layer)
        for chunk in chunks[sealed...] {
            let count = min(chunk.tokenCount, tokens.upperBound - chunk.firstPosition)
            guard count > 0 else { return }
            defer { target += count }
            let own = (target..<target + count).clamped(to: rows)
            guard !own.isEmpty else { continue }
            slabs.copy(
                from: chunk, tokens: own.lowerBound - target..<own.upperBound - target, layer: layer, head: head, toRow: own.lowerBound)
        }
    }
}
