internal import CacheModel
internal import LinuxKit
internal import WireProtocol

/// Arrays of tokens to append: keys [layers, heads, count, keyDim], values likewise, and the ids or none.
struct AppendSource: ~Copyable, ~Escapable {
    let geometry: Geometry
    let keys: RawSpan
    let values: RawSpan
    let count: Int
    let ids: [UInt32]

    @_lifetime(copy keys, copy values)
    init(geometry: Geometry, keys: RawSpan, values: RawSpan, count: Int, ids: [UInt32]) {
        self.geometry = geometry
        self.keys = keys
        self.values = values
        self.count = count
        self.ids = ids
    }

    @_lifetime(copy self)
    func keys(layer: Int, head: Int, _ tokens: Range<Int>) -> RawSpan { rows(of: keys, geometry.keyBytes, layer, head, tokens) }

    @_lifetime(copy self)
    func values(layer: Int, head: Int, _ tokens: Range<Int>) -> RawSpan {
        rows(of: values, geometry.valueBytes, layer, head, tokens)
    }

    @_lifetime(copy array)
    private func rows(of array: RawSpan, _ rowBytes: Int, _ layer: Int, _ head: Int, _ tokens: Range<Int>) -> RawSpan {
        let first = (layer * geometry.heads + head) * count
        return array.extracting((first + tokens.lowerBound) * rowBytes..<(first + tokens.upperBound) * rowBytes)
    }
}

/// Appending by inlets (PROTOCOL.md, section 3).
extension Session {
    /// Bytes from which on inlets pay: below, their messages and the pages they touch cost more than a second copy.
    private static let leastDelivery = 1 << 20
    /// Bytes of layers to fill before the daemon is told of them: about what the cores' common cache holds, and so much that the
    /// message costs nothing.
    private static let layersBytes = 16 << 20

    private typealias Inlet = (grant: InletGrant, file: MappedFile)

    /// Puts as many tokens of the source, from token `first` on, into inlets as the daemon has room for.
    /// - Returns: how many; none where they are too few, or there is no room: they go into the slabs then.
    func deliver(_ source: borrowing AppendSource, from first: Int) throws(ClientError) -> Int {
        let (left, tokens) = (source.count - first, try writePlan().tokens)
        let (geometry, policy) = (description.geometry, description.policy)
        guard left * geometry.tokenBytes >= Self.leastDelivery,
            policy.sealedChunks(tokens: tokens + left) > policy.sealedChunks(tokens: tokens)
        else { return 0 }
        let inlets = try askForInlets(from: tokens, wanted: tokens + left)
        guard let end = inlets.last.map({ min($0.grant.until, tokens + left) }) else { return 0 }
        let step = max(1, Self.layersBytes / max(1, (end - tokens) * geometry.layerTokenBytes))
        for layers in stride(from: 0, to: geometry.layers, by: step).map({ $0..<min(geometry.layers, $0 + step) }) {
            for inlet in inlets { fill(inlet, layers, with: source, shift: first - tokens, positions: tokens..<end) }
            guard layers.upperBound < geometry.layers else { break }
            let progress = Request.deliver(handle: handle, tokens: end, layers: layers.upperBound)
            guard case .empty = try connection.ask(progress) else { throw Connection.unexpected(.deliver) }
        }
        return end - tokens
    }

    /// Inlets for the tokens up to `wanted`, or as many as there is room for.
    private func askForInlets(from tokens: Int, wanted: Int) throws(ClientError) -> [Inlet] {
        var inlets: [Inlet] = []
        var end = tokens
        while end < wanted {
            do throws(ClientError) {
                inlets.append(try askForInlet(from: end, wanted: wanted))
                end = inlets.last!.grant.until
            } catch {
                guard case .refused(let reason) = error, reason.code == .noInlet else { throw error }
                break
            }
        }
        return inlets
    }

    private func askForInlet(from tokens: Int, wanted: Int) throws(ClientError) -> Inlet {
        try requireOpen()
        var descriptors = PassedDescriptors()
        guard case .inlet(let grant) = try connection.ask(.inlet(handle: handle, after: tokens, wanted: wanted), &descriptors),
            let descriptor = descriptors.takeFirst()
        else { throw Connection.unexpected(.inlet) }
        let file = try connection.inlet(grant.inlet, descriptor)
        let policy = description.policy
        // So that no sum or product below overflows.
        let isSmall = max(grant.chunk, grant.chunks) <= Limits.tokens
        let room = isSmall ? grant.chunks * policy.lag + (grant.chunk == 0 ? policy.sink : 0) : 0
        guard isSmall, grant.until > tokens, grant.until <= policy.firstPosition(ofChunk: grant.chunk + grant.chunks),
            file.byteCount == grant.bytes, room * Self.tokenBytes(description.geometry) <= grant.bytes
        else {
            throw .badReply(
                CacheError(.badRequest, "an inlet", seen: "\(grant)", expected: "chunks that fit a file of \(file.byteCount) bytes"))
        }
        return (grant, file)
    }

    /// Bytes of a token in a chunk, its id included.
    private static func tokenBytes(_ geometry: Geometry) -> Int { geometry.tokenBytes + 4 }

    /// Copies some layers of the tokens at `positions`, as far as they belong to the chunks of an inlet, to their places, and
    /// with the first layer their ids.
    /// - Parameter shift: from a position to the index of its token in the source.
    private func fill(
        _ inlet: Inlet, _ layers: Range<Int>, with source: borrowing AppendSource, shift: Int, positions: Range<Int>
    ) {
        let (geometry, policy) = (description.geometry, description.policy)
        var base = 0
        for chunk in inlet.grant.chunk..<inlet.grant.chunk + inlet.grant.chunks {
            let first = chunk == 0 ? 0 : policy.firstPosition(ofChunk: chunk)
            let count = policy.firstPosition(ofChunk: chunk + 1) - first
            defer { base += count * Self.tokenBytes(geometry) }
            let own = positions.clamped(to: first..<first + count)
            guard !own.isEmpty else { continue }
            let (tokens, skipped) = (own.lowerBound + shift..<own.upperBound + shift, own.lowerBound - first)
            for layer in layers {
                let keys = base + layer * count * geometry.layerTokenBytes
                let values = keys + count * geometry.heads * geometry.keyBytes
                for head in 0..<geometry.heads {
                    let row = head * count + skipped
                    inlet.file.copyPastCaches(source.keys(layer: layer, head: head, tokens), to: keys + row * geometry.keyBytes)
                    inlet.file.copyPastCaches(source.values(layer: layer, head: head, tokens), to: values + row * geometry.valueBytes)
                }
            }
            guard layers.lowerBound == 0 else { continue }
            let ids = source.ids.isEmpty ? [] : source.ids[tokens]
            copy(ids, of: own.count, to: inlet.file, at: base + count * geometry.tokenBytes + 4 * skipped)
        }
    }

    /// Ids that are not given are 0: what an inlet held before is not theirs.
    private func copy(_ ids: ArraySlice<UInt32>, of count: Int, to file: MappedFile, at offset: Int) {
        file.withUnsafeMutableBytes(offset..<offset + 4 * count) { target in
            guard !ids.isEmpty else { return _ = target.initializeMemory(as: UInt8.self, repeating: 0) }
            ids.withUnsafeBytes { target.copyMemory(from: $0) }
        }
    }
}
