internal import CacheModel
internal import WireProtocol

/// What a replay found. The JSON's keys are a contract; seconds and bytes throughout.
struct ReplayReport: Encodable {
    var session: String
    var tokens: Int
    var layers: Int
    var kvHeads: Int
    var keyDim: Int
    var valueDim: Int
    var dtype: String
    var sink: Int
    var lag: Int
    var keepRatio: Double
    var rawBytes: Int
    var sealedChunks: Int
    /// Rows of each layer's hot view.
    var viewTokens: [Int]
    /// Bytes of keys and values in the hot views.
    var viewBytes: Int
    /// What the kernel counts for the slab file after the last seal.
    var slabBytes: Int
    /// What the daemon charges to its memory budget.
    var residentBytes: Int
    var diskBytes: Int
    var prefillTokens: Int
    var prefillSeconds: Double
    var stepTokens: Int
    var steps: Int
    var stepSecondsTotal: Double
    var stepSecondsP50: Double
    var stepSecondsP99: Double
    var stepSecondsMax: Double
    var syncSeconds: Double
    var suspendSeconds: Double
    var openSeconds: Double
    /// For the full views of all layers, from the disk.
    var fullSeconds: Double
    /// Empty, or what differs from the capture.
    var difference: String

    enum CodingKeys: String, CodingKey {
        case session, tokens, layers, dtype, sink, lag, steps, difference
        case kvHeads = "kv_heads"
        case keyDim = "key_dim"
        case valueDim = "value_dim"
        case keepRatio = "keep_ratio"
        case rawBytes = "raw_bytes"
        case sealedChunks = "sealed_chunks"
        case viewTokens = "view_tokens"
        case viewBytes = "view_bytes"
        case slabBytes = "slab_bytes"
        case residentBytes = "resident_bytes"
        case diskBytes = "disk_bytes"
        case prefillTokens = "prefill_tokens"
        case prefillSeconds = "prefill_seconds"
        case stepTokens = "step_tokens"
        case stepSecondsTotal = "step_seconds_total"
        case stepSecondsP50 = "step_seconds_p50"
        case stepSecondsP99 = "step_seconds_p99"
        case stepSecondsMax = "step_seconds_max"
        case syncSeconds = "sync_seconds"
        case suspendSeconds = "suspend_seconds"
        case openSeconds = "open_seconds"
        case fullSeconds = "full_seconds"
    }

    /// Lines for people.
    var text: String {
        let tokenBytes = tokens > 0 ? rawBytes / tokens : 0
        var pairs = [
            ("tokens", "\(Units.grouped(tokens)) of \(Units.bytes(tokenBytes)): \(Units.bytes(rawBytes)) raw"),
            ("policy", "sink \(sink), lag \(lag), keep \(Units.percent(keepRatio)): \(sealedChunks) chunks sealed"),
            ("hot view", "\(rows) tokens a head, \(Units.bytes(viewBytes)), \(share(viewBytes))"),
            ("slabs in memory", "\(Units.bytes(slabBytes)), \(share(slabBytes)); \(times(slabBytes, viewBytes)) the hot view"),
            ("charged", "\(Units.bytes(residentBytes)) of the memory budget"),
            ("disk", "\(Units.bytes(diskBytes)), \(share(diskBytes)), every token"),
            ("prefill", "\(Units.grouped(prefillTokens)) tokens in \(Units.seconds(prefillSeconds)): \(prefillRate)"),
        ]
        if steps > 0 {
            pairs.append(
                (
                    "steps of \(stepTokens)",
                    "p50 \(Units.seconds(stepSecondsP50)), p99 \(Units.seconds(stepSecondsP99)), max \(Units.seconds(stepSecondsMax))"
                ))
        }
        pairs += [
            ("all chunks on disk", "\(Units.seconds(syncSeconds)) after the last token"),
            ("suspend", Units.seconds(suspendSeconds)),
            ("resume and attach", Units.seconds(openSeconds)),
            ("full view", "\(Units.seconds(fullSeconds)), \(Units.rate(bytes: rawBytes, seconds: fullSeconds)), all layers"),
            ("bit for bit", difference.isEmpty ? "yes: full view and hot view of every layer" : "NO: \(difference)"),
        ]
        return Table.pairs(pairs).render()
    }

    private var rows: String {
        guard let least = viewTokens.min(), let most = viewTokens.max() else { return "no" }
        return least == most ? Units.grouped(least) : "\(Units.grouped(least)) to \(Units.grouped(most))"
    }

    private var prefillRate: String {
        let bytes = tokens > 0 ? rawBytes / tokens * prefillTokens : 0
        guard prefillSeconds > 0 else { return "–" }
        return
            "\(Units.grouped(Int(Double(prefillTokens) / prefillSeconds))) tokens/s, \(Units.rate(bytes: bytes, seconds: prefillSeconds))"
    }

    private func share(_ bytes: Int) -> String {
        rawBytes > 0 ? "\(Units.percent(Double(bytes) / Double(rawBytes))) of raw" : "–"
    }

    private func times(_ bytes: Int, _ base: Int) -> String {
        base > 0 ? "\(Units.fixed(Double(bytes) / Double(base), digits: 3)) ×" : "–"
    }
}

extension [Double] {
    /// The least value that is not below a share of `share` of all; 0 of none.
    func quantile(_ share: Double) -> Double {
        let sorted = sorted()
        return sorted.isEmpty ? 0 : sorted[Swift.min(count - 1, Int(Double(count) * share))]
    }
}
