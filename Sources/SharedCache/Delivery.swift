internal import CacheLoop
internal import CacheModel
internal import ChunkStore
internal import LinuxKit

/// Tokens on their way into a session by inlets, from its length `from` on.
///
/// Layers are scored as soon as they are there, while the client brings the next: prefill computes them in that order, and all
/// chunks of a layer one after the other go through the caches once. Nothing of it is part of the session before a commit says
/// so; whatever else changes the session's length ends it.
@CacheLoop
final class Delivery {
    let from: Int
    /// The session's first unsealed chunk: its tokens below `from` were copied from the slabs.
    let firstChunk: Int
    /// Chunk `firstChunk` and those after it, each as large as when it is complete.
    private(set) var chunks: [RawChunk] = []
    /// Bytes of `chunks`.
    private(set) var bytes = 0
    /// What layers keep, in order, each entry for some of them.
    private var choices: [Task<[ChoiceJob.Outcome], Never>] = []
    /// How many layers those are.
    private(set) var layers = 0
    /// The length that they were chosen for; nil while there are none.
    private(set) var tokens: Int?

    init(from: Int, policy: Policy) {
        self.from = from
        firstChunk = policy.sealedChunks(tokens: from)
    }

    /// The end of the last chunk, and at least `from`.
    var until: Int { max(from, chunks.last.map { $0.firstPosition + $0.tokenCount } ?? from) }

    /// What stays in memory of it when the session's length is `tokens`.
    func rows(in slabs: Slabs, tokens: Int) -> DeliveredRows { DeliveredRows(slabs: slabs, tokens: from..<tokens, chunks: chunks) }

    func add(_ chunk: RawChunk) {
        chunks.append(chunk)
        bytes += chunk.byteCount
    }

    /// Notes the work that chooses, for a length of `tokens`, in the layers up to `layers`.
    func add(_ choice: Task<[ChoiceJob.Outcome], Never>, tokens: Int, layers: Int) {
        choices.append(choice)
        self.tokens = tokens
        self.layers = layers
    }

    /// Waits until every choice that was begun is made: what each piece of the layers keeps, in order.
    func outcomes() async -> [ChoiceJob.Outcome] {
        var outcomes: [ChoiceJob.Outcome] = []
        for choice in choices { outcomes += await choice.value }
        return outcomes
    }
}
