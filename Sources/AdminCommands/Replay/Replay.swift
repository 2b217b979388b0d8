internal import CacheModel
internal import LagKVClient
internal import LinuxKit
internal import Safetensors
internal import WireProtocol

/// Streams a capture through a session as an engine would, and measures.
struct Replay {
    let capture: Capture
    /// Tokens of the first, whole piece: the prompt.
    let prefill: Int
    /// Tokens of each later piece.
    let step: Int

    struct Streamed {
        var prefillSeconds = 0.0
        var prefillTokens = 0
        /// One for each step after the prefill, in order.
        var stepSeconds: [Double] = []
    }

    /// Appends all tokens of the capture, written in place.
    func stream(into session: Session, progress: inout Progress) throws -> Streamed {
        var result = Streamed(prefillTokens: min(prefill, capture.tokens))
        result.prefillSeconds = try measured { try append(0..<result.prefillTokens, to: session) }.seconds
        var done = result.prefillTokens
        while done < capture.tokens {
            let next = min(done + step, capture.tokens)
            result.stepSeconds.append(try measured { try append(done..<next, to: session) }.seconds)
            done = next
            progress.update("token \(Units.grouped(done)) of \(Units.grouped(capture.tokens))")
        }
        return result
    }

    /// Copies tokens from the capture's mapping straight into the shared slabs, in pieces as large as the daemon grants.
    func append(_ tokens: Range<Int>, to session: Session) throws(ClientError) {
        var done = tokens.lowerBound
        while done < tokens.upperBound {
            if try session.granted == 0 { try session.askForRoom() }
            let piece = done..<min(tokens.upperBound, done + (try session.granted))
            guard !piece.isEmpty else {
                throw .refused(
                    CacheError(.beyondGrant, "tokens to append", seen: "\(done)", expected: "more room than the daemon grants"))
            }
            for layer in 0..<capture.geometry.layers {
                for head in 0..<capture.geometry.heads {
                    let (keys, values) = (
                        capture.keys(layer: layer, head: head, piece), capture.values(layer: layer, head: head, piece)
                    )
                    try session.withWindow(layer: layer, head: head, tokens: piece.count) { keyRows, valueRows in
                        keyRows.copyBytes(from: keys)
                        valueRows.copyBytes(from: values)
                    }
                }
            }
            if !capture.ids.isEmpty { try session.write(ids: capture.ids[piece]) }
            done = piece.upperBound
            try session.commit(tokens: done)
        }
    }

    struct Comparison {
        /// What differs first; nil if nothing does.
        var difference: String?
        /// Rows of each layer's hot view.
        var viewTokens: [Int] = []
        /// What the full views took, without the comparison.
        var fullSeconds = 0.0
    }

    /// Compares the full view and the hot view of every layer with the first `tokens` tokens of the capture, bit for bit.
    func compare(_ session: Session, tokens: Int, progress: inout Progress) throws -> Comparison {
        var comparison = Comparison()
        for layer in 0..<capture.geometry.layers {
            progress.update("comparing layer \(layer + 1) of \(capture.geometry.layers)")
            let full = try measured { try session.full(layer: layer) }
            comparison.fullSeconds += full.seconds
            let (ofView, count) = try differenceOfView(session, layer, tokens)
            comparison.viewTokens.append(count)
            comparison.difference = differenceOfFull(full.value, layer, tokens) ?? ofView
            if comparison.difference != nil { break }
        }
        return comparison
    }

    private func differenceOfFull(_ full: FullView, _ layer: Int, _ tokens: Int) -> String? {
        guard full.tokens == tokens else { return "the full view of layer \(layer) has \(full.tokens) tokens, not \(tokens)" }
        for head in 0..<capture.geometry.heads {
            let keys = full.keys(head: head).isEqual(to: capture.keys(layer: layer, head: head, 0..<tokens))
            let values = full.values(head: head).isEqual(to: capture.values(layer: layer, head: head, 0..<tokens))
            guard keys, values else { return "the full view of layer \(layer), head \(head) is not what was appended" }
        }
        return nil
    }

    private func differenceOfView(_ session: Session, _ layer: Int, _ tokens: Int) throws -> (difference: String?, count: Int) {
        let geometry = capture.geometry
        let view = try session.view(layer: layer)
        for head in 0..<geometry.heads {
            let (keys, values, positions) = (view.keys(head: head), view.values(head: head), view.positions(head: head))
            for row in 0..<view.count {
                let token = Int(positions[row])
                guard (0..<tokens).contains(token) else {
                    return ("row \(row) of layer \(layer), head \(head) has position \(token)", view.count)
                }
                let key = keys.extracting(row * geometry.keyBytes..<(row + 1) * geometry.keyBytes)
                let value = values.extracting(row * geometry.valueBytes..<(row + 1) * geometry.valueBytes)
                guard key.isEqual(to: capture.keys(layer: layer, head: head, token..<token + 1)),
                    value.isEqual(to: capture.values(layer: layer, head: head, token..<token + 1))
                else { return ("row \(row) of the view of layer \(layer), head \(head) is not token \(token)", view.count) }
            }
        }
        return (view.isValid ? nil : "the layout changed while layer \(layer) was compared", view.count)
    }
}
