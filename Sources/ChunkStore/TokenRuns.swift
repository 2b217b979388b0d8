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
