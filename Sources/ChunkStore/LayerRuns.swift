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

/// Runs of tokens in a row, head after head, in one piece of memory: an object's layers are many, and each has runs for every head.
struct TokenRuns {
    private var runs: [Range<Int>] = []
    /// Where each head's runs end.
    private var ends: [Int] = []

    init(capacity: Int, heads: Int) {
        runs.reserveCapacity(capacity)
        ends.reserveCapacity(heads)
    }

    mutating func append(_ run: Range<Int>) {
        if !run.isEmpty { runs.append(run) }
    }

    mutating func endHead() { ends.append(runs.count) }

    /// The rows of every head, when row 0 of head h is at h · `stride`.
    func pieces(rowBytes: Int, stride: Int) -> [Piece] {
        var pieces: [Piece] = []
        pieces.reserveCapacity(runs.count)
        for head in ends.indices { append(head: head, rowBytes, from: head * stride, to: &pieces) }
        return pieces
    }

    /// The rows of one head, whose row 0 is at `start`, in place of what is in `pieces`.
    func list(head: Int, rowBytes: Int, from start: Int, in pieces: inout [Piece]) {
        pieces.removeAll(keepingCapacity: true)
        append(head: head, rowBytes, from: start, to: &pieces)
    }

    private func append(head: Int, _ rowBytes: Int, from start: Int, to pieces: inout [Piece]) {
        for run in (head == 0 ? 0 : ends[head - 1])..<ends[head] { pieces.append(Piece(runs[run], of: rowBytes, from: start)) }
    }
}
