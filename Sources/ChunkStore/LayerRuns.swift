/// Which tokens of one layer are in an object's kept part and which in its evicted part: runs of tokens in a row, of every head.
struct LayerRuns {
    private(set) var kept: TokenRuns
    private(set) var evicted: TokenRuns

    /// - Parameter offsets: what is kept; nil where nothing is evicted.
    init(_ offsets: KeptOffsets?, layer: Int, heads: Int, tokens: Int) {
        // No head has more runs than it keeps tokens, and one more.
        let most = heads * ((offsets?.count(layer: layer) ?? 0) + 1)
        (kept, evicted) = (TokenRuns(capacity: most, heads: heads), TokenRuns(capacity: most, heads: heads))
        for head in 0..<heads {
            if let offsets {
                append(offsets.offsets(layer: layer, head: head), tokens: tokens)
            } else {
                kept.append(0..<tokens)
            }
            kept.endHead()
            evicted.endHead()
        }
    }

    private mutating func append(_ offsets: Span<UInt32>, tokens: Int) {
        var (end, index) = (0, 0)
        while index < offsets.count {
            let start = Int(offsets[index])
            evicted.append(end..<start)
            end = start + 1
            index += 1
            while index < offsets.count, Int(offsets[index]) == end {
                end += 1
                index += 1
            }
            kept.append(start..<end)
        }
        evicted.append(end..<tokens)
    }
}
