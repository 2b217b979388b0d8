internal import CacheModel
internal import LinuxKit
public import WireProtocol

/// Where the writer's next tokens go, as of one generation.
struct WritePlan {
    var header: ControlFile.Header
    /// For each layer, the row of token `header.tokens`.
    var rows: [Int]
    /// Logical length, published tokens included.
    var tokens: Int
}

/// Appending, the easy way and the way without copies.
extension Session {
    /// Appends `count` tokens.
    ///
    /// Any number of tokens is fine. Few are copied into the shared slabs; many into inlets, chunk by chunk, which the daemon
    /// scores while the next one is filled. Costs one memory copy, and a message for each inlet and each commit.
    /// - Parameters:
    ///   - keys: [layers, heads, count, keyDim] of the session's element type, contiguous.
    ///   - values: [layers, heads, count, valueDim], likewise.
    ///   - ids: token ids for the client's own use, `count` of them, or none.
    ///   - durable: returns when every sealed chunk is on disk.
    /// - Throws: `badRequest` for a wrong number of bytes; `beyondCapacity` before anything is written; or what the daemon
    ///   says, after which the tokens of the cuts before are there.
    public func append(
        keys: RawSpan, values: RawSpan, count: Int, ids: [UInt32] = [], durable: Bool = false
    ) throws(ClientError) {
        try checkAppend(keys: keys.byteCount, values: values.byteCount, count: count, ids: ids.count)
        let source = AppendSource(geometry: description.geometry, keys: keys, values: values, count: count, ids: ids)
        var done = 0
        while done < count {
            let delivered = try deliver(source, from: done)
            let piece = delivered > 0 ? delivered : min(count - done, try nextPiece())
            if delivered == 0 { try write(source, tokens: done..<done + piece) }
            done += piece
            var options: CommitOptions = delivered > 0 ? .delivered : []
            if done == count, durable { options.insert(.durable) }
            try commit(tokens: try writePlan().tokens + piece, options)
        }
    }

    private func checkAppend(keys: Int, values: Int, count: Int, ids: Int) throws(ClientError) {
        let geometry = description.geometry
        let rows = geometry.layers * geometry.heads * count
        guard count >= 0, keys == rows * geometry.keyBytes, values == rows * geometry.valueBytes, ids == 0 || ids == count else {
            throw .refused(
                CacheError(
                    .badRequest, "what to append for \(count) tokens", seen: "\(keys) and \(values) bytes, \(ids) ids",
                    expected: "\(rows * geometry.keyBytes) and \(rows * geometry.valueBytes) bytes, \(count) ids or none"))
        }
        let plan = try writePlan()
        guard count <= description.capacity - plan.tokens else {
            throw .refused(
                CacheError(
                    .beyondCapacity, "tokens of a session", seen: "\(plan.tokens) and \(count) more",
                    expected: "at most \(description.capacity)"))
        }
    }

    /// How many tokens to write into the slabs before the next commit.
    private func nextPiece() throws(ClientError) -> Int {
        if try granted == 0 { try askForRoom() }
        let plan = try writePlan()
        let granted = plan.header.grant - plan.tokens
        guard granted > 0 else {
            throw .refused(
                CacheError(
                    .beyondGrant, "tokens to append", seen: "\(plan.tokens) there already",
                    expected: "at most \(plan.header.grant)"))
        }
        return granted
    }

    /// Copies tokens of the source to where the plan says.
    private func write(_ source: borrowing AppendSource, tokens: Range<Int>) throws(ClientError) {
        for layer in 0..<description.geometry.layers {
            for head in 0..<description.geometry.heads {
                slab.copy(
                    source.keys(layer: layer, head: head, tokens),
                    to: try keyRange(layer: layer, head: head, tokens: tokens.count).lowerBound)
                slab.copy(
                    source.values(layer: layer, head: head, tokens),
                    to: try valueRange(layer: layer, head: head, tokens: tokens.count).lowerBound)
            }
        }
        if !source.ids.isEmpty { try write(ids: source.ids[tokens]) }
    }
}

/// Writing in place: what an engine uses that has no array to copy from.
extension Session {
    /// The most tokens that may be written before the next commit.
    public var granted: Int {
        get throws(ClientError) {
            let plan = try writePlan()
            return plan.header.grant - plan.tokens
        }
    }

    /// Makes the daemon grant more, or say why it cannot: for when what is granted does not do.
    /// - Throws: `memoryBudget`.
    public func askForRoom() throws(ClientError) {
        try change(.commit(handle: handle, tokens: try writePlan().tokens, []))
    }

    /// Hands out the room for the next `tokens` tokens of one head in the shared slabs: keys [tokens, keyDim] and values
    /// [tokens, valueDim]. It is good until the next `commit`, which may move it.
    public func withWindow<Value>(
        layer: Int, head: Int, tokens: Int,
        _ body: (_ keys: inout MutableRawSpan, _ values: inout MutableRawSpan) throws(ClientError) -> Value
    ) throws(ClientError) -> Value {
        let slab = slab
        var keys = slab.mutableBytes(try keyRange(layer: layer, head: head, tokens: tokens))
        var values = slab.mutableBytes(try valueRange(layer: layer, head: head, tokens: tokens))
        return try body(&keys, &values)
    }

    /// Stores the ids of the next tokens.
    public func write(ids: ArraySlice<UInt32>) throws(ClientError) {
        let plan = try checkWindow(tokens: ids.count)
        let first = layout.idsOffset + 4 * plan.tokens
        slab.withUnsafeMutableBytes(first..<first + 4 * ids.count) { target in
            ids.withUnsafeBytes { target.copyMemory(from: $0) }
        }
    }

    private func keyRange(layer: Int, head: Int, tokens: Int) throws(ClientError) -> Range<Int> {
        let row = try windowRow(layer: layer, head: head, tokens: tokens)
        let keyBytes = description.geometry.keyBytes
        let first = layout.keys(layer: layer, head: head) + row * keyBytes
        return first..<first + tokens * keyBytes
    }

    private func valueRange(layer: Int, head: Int, tokens: Int) throws(ClientError) -> Range<Int> {
        let row = try windowRow(layer: layer, head: head, tokens: tokens)
        let valueBytes = description.geometry.valueBytes
        let first = layout.values(layer: layer, head: head) + row * valueBytes
        return first..<first + tokens * valueBytes
    }

    private func windowRow(layer: Int, head: Int, tokens: Int) throws(ClientError) -> Int {
        precondition((0..<description.geometry.layers).contains(layer), "layer \(layer)")
        precondition((0..<description.geometry.heads).contains(head), "head \(head)")
        let plan = try checkWindow(tokens: tokens)
        return plan.rows[layer] + (plan.tokens - plan.header.tokens)
    }

    private func checkWindow(tokens: Int) throws(ClientError) -> WritePlan {
        let plan = try writePlan()
        guard tokens >= 0, tokens <= plan.header.grant - plan.tokens else {
            throw .refused(
                CacheError(
                    .beyondGrant, "tokens to write", seen: "\(plan.tokens) and \(tokens) more",
                    expected: "at most \(plan.header.grant)"))
        }
        return plan
    }

    /// Declares that the session now has `tokens` tokens, all of them written. Below the boundary that is one store to
    /// shared memory; otherwise a message, after which chunks are sealed and everything written may have moved.
    public func commit(tokens: Int, _ options: CommitOptions = []) throws(ClientError) {
        let plan = try writePlan()
        guard tokens >= plan.tokens else {
            throw .refused(CacheError(.badTokenCount, "tokens to commit", seen: "\(tokens)", expected: "at least \(plan.tokens)"))
        }
        if tokens < plan.header.boundary, options.isEmpty {
            slab.storeRelease(UInt64(tokens), at: SlabPage.publishedOffset)
            self.plan?.tokens = tokens
        } else {
            _ = try change(.commit(handle: handle, tokens: tokens, options))
        }
    }
}

extension Session {
    /// The plan, as fresh as the control file.
    func writePlan() throws(ClientError) -> WritePlan {
        guard let plan else {
            throw .refused(
                CacheError(.notWriter, "a session that is open for reading", seen: name.text, expected: "open it to write"))
        }
        try requireOpen()
        // Only this writer's own requests change the layout, unless somebody suspended or deleted the session.
        if plan.header.generation != control.generation { try refreshPlan() }
        return self.plan ?? plan
    }

    func refreshPlan() throws(ClientError) {
        plan = try consistently { (generation) throws(ClientError) in
            let header = self.control.header(generation)
            let layers = (0..<self.description.geometry.layers).map { self.control.layer($0) }
            for layer in layers {
                // The rows up to the grant, so that no range made from the plan leaves its head.
                let last = layer.rows.addingReportingOverflow(max(0, header.grant - header.tokens))
                guard !last.overflow, last.partialValue <= self.layout.rows else { throw Self.badControl }
            }
            return WritePlan(header: header, rows: layers.map(\.rows), tokens: self.length(header))
        }
    }

    static var badControl: ClientError {
        .badReply(
            CacheError(.badRequest, "the control file", seen: "more rows than fit a head", expected: "counts within the layout"))
    }

    /// A request after which the layout may be another.
    @discardableResult
    func change(_ request: Request) throws(ClientError) -> Standing {
        try requireOpen()
        guard case .standing(let standing) = try connection.ask(request) else { throw Connection.unexpected(request.verb) }
        if isWriter { try refreshPlan() }
        return standing
    }
}
