import CacheLoop
import CacheModel
import LinuxKit
import SharedCache
import WireProtocol

/// A session as a client holds it open: the two files, and the rules of PROTOCOL.md for reading and writing them, written
/// down once more without a look at the daemon's code.
@CacheLoop
final class HeldSession {
    let handle: UInt32
    let model: SessionModel
    let isWriter: Bool
    /// Held like a client's descriptors: they keep the files from serving another session.
    private let files: [GrantedFile]
    var slab: SharedMemory { files[0].memory }
    var control: SharedMemory { files[1].memory }
    let layout: SharedLayout
    /// It was suspended or deleted.
    var isInvalid = false
    /// Its end is under way.
    var isClosing = false
    /// The first commit that seals gives back what the files brought with them.
    var mayHoldFreedPages = true

    init(_ attachment: Attachment, _ files: [GrantedFile], model: SessionModel) {
        handle = attachment.handle
        isWriter = attachment.isWriter
        layout = attachment.layout
        self.files = files
        self.model = model
    }

    /// Whether the room for the first `count` tokens is as empty as new memory.
    func isBlank(_ count: Int) -> Bool {
        let geometry = model.geometry
        let heads = (0..<geometry.layers).flatMap { layer in (0..<geometry.heads).map { (layer, $0) } }
        let ranges = heads.flatMap { layer, head in
            let (keys, values) = (layout.keys(layer: layer, head: head), layout.values(layer: layer, head: head))
            return [keys..<keys + count * geometry.keyBytes, values..<values + count * geometry.valueBytes]
        }
        return (ranges + [layout.idsOffset..<layout.idsOffset + 4 * count]).allSatisfy { range in
            slab.withUnsafeBytes(range) { $0.allSatisfy { $0 == 0 } }
        }
    }

    /// The numbers of the control page.
    struct Page {
        var state: UInt32
        var generation: UInt64
        var tokens: Int
        var sealedChunks: Int
        var durableTokens: Int
        var boundary: Int
        var grant: Int
    }

    func page() -> Page {
        Page(
            state: control.load(at: 12, as: UInt32.self), generation: control.loadAcquire(at: 16), tokens: number(24),
            sealedChunks: number(32), durableTokens: number(40), boundary: number(48), grant: number(56))
    }

    private func number(_ offset: Int) -> Int { Int(control.loadRelaxed(at: offset)) }

    func rows(layer: Int) -> Int { number(layout.layerTableOffset + 16 * layer) }
    func recalled(layer: Int) -> Int { number(layout.layerTableOffset + 16 * layer + 8) }

    // MARK: Writing

    /// Writes a token's rows and id where a session of `page`'s length has them.
    func write(_ token: Token, index: Int, _ page: Page) {
        let geometry = model.geometry
        for layer in 0..<geometry.layers {
            let row = rows(layer: layer) + index - page.tokens
            for head in 0..<geometry.heads {
                put(token.key(layer: layer, head: head), at: layout.keys(layer: layer, head: head) + row * geometry.keyBytes)
                put(
                    token.value(layer: layer, head: head), at: layout.values(layer: layer, head: head) + row * geometry.valueBytes
                )
            }
        }
        slab.store(token.id, at: layout.idsOffset + 4 * index)
    }

    private func put(_ bytes: ArraySlice<UInt8>, at offset: Int) { put(bytes, at: offset, in: slab) }

    private func put(_ bytes: ArraySlice<UInt8>, at offset: Int, in file: SharedMemory) {
        file.withUnsafeMutableBytes(offset..<offset + bytes.count) { $0.copyBytes(from: bytes) }
    }

    /// Writes those of `tokens`, the first of which has position `first`, that belong to an inlet's chunks.
    func write(_ tokens: [Token], from first: Int, to grant: InletGrant, _ file: GrantedFile) {
        let (geometry, policy) = (model.geometry, model.policy)
        var base = 0
        for chunk in grant.chunk..<grant.chunk + grant.chunks {
            let begin = chunk == 0 ? 0 : policy.sink + chunk * policy.lag
            let count = policy.sink + (chunk + 1) * policy.lag - begin
            for (index, token) in tokens.enumerated() where (begin..<begin + count).contains(first + index) {
                let place = first + index - begin
                for layer in 0..<geometry.layers {
                    let keys = base + layer * count * geometry.heads * (geometry.keyBytes + geometry.valueBytes)
                    let values = keys + count * geometry.heads * geometry.keyBytes
                    for head in 0..<geometry.heads {
                        let row = head * count + place
                        put(token.key(layer: layer, head: head), at: keys + row * geometry.keyBytes, in: file.memory)
                        put(token.value(layer: layer, head: head), at: values + row * geometry.valueBytes, in: file.memory)
                    }
                }
                file.memory.store(token.id, at: base + count * geometry.tokenBytes + 4 * place)
            }
            base += count * (geometry.tokenBytes + 4)
        }
    }

    func publish(_ count: Int) { slab.storeRelease(UInt64(count), at: 0) }

    // MARK: Reading

    /// Reads the whole view as a reader does, pausing between two heads where `pause` does, and compares it with the model.
    /// - Returns: what is wrong; nil when all is well, or when the layout kept changing.
    func checkView(pause: () async -> Void) async -> String? {
        for _ in 0..<10 {
            let page = page()
            guard page.generation.isMultiple(of: 2) else {
                await pause()
                continue
            }
            guard page.state == 1 else {
                isInvalid = true
                return nil
            }
            let claim = Int(truncatingIfNeeded: slab.loadAcquire(at: 0))
            let count = claim >= page.tokens && claim < page.boundary ? claim : page.tokens
            var heads: [Head] = []
            for layer in 0..<model.geometry.layers {
                for head in 0..<model.geometry.heads {
                    heads.append(read(layer: layer, head: head, rows: rows(layer: layer) + count - page.tokens))
                    await pause()
                }
            }
            let summaries = summaries(chunks: page.sealedChunks)
            Fence.acquire()
            if control.loadAcquire(at: 16) == page.generation {
                return complain(page, count, heads) ?? complain(summaries, chunks: page.sealedChunks)
            }
        }
        return nil
    }

    /// One head's view as bytes.
    private struct Head {
        let layer: Int
        let head: Int
        let recalled: Int
        let positions: [Int]
        let keys: [UInt8]
        let values: [UInt8]
    }

    private func read(layer: Int, head: Int, rows: Int) -> Head {
        let geometry = model.geometry
        let recalled = recalled(layer: layer)
        func bytes(_ base: Int, _ rowBytes: Int) -> [UInt8] {
            slab.withUnsafeBytes(base - recalled * rowBytes..<base + max(rows, -recalled) * rowBytes) { Array($0) }
        }
        let positions = (-recalled..<max(rows, -recalled)).map { row in
            Int(control.load(at: layout.positions(layer: layer, head: head) + 4 * row, as: Int32.self))
        }
        return Head(
            layer: layer, head: head, recalled: recalled, positions: positions,
            keys: bytes(layout.keys(layer: layer, head: head), geometry.keyBytes),
            values: bytes(layout.values(layer: layer, head: head), geometry.valueBytes))
    }

    private func complain(_ page: Page, _ count: Int, _ heads: [Head]) -> String? {
        let visible = model.visible
        guard page.tokens <= visible.count, count <= visible.count else {
            return "\(model.name) shows \(count) tokens of \(visible.count)"
        }
        guard page.sealedChunks == model.sealedChunks(at: page.tokens) else {
            return "\(model.name) has \(page.sealedChunks) sealed chunks at \(page.tokens) tokens"
        }
        for head in heads {
            let place = "\(model.name) at \(page.tokens), \(count) tokens, layer \(head.layer), head \(head.head)"
            // The end of the lease takes recalled rows back before its reply is seen.
            let recalled = head.recalled == 0 && model.writer?.isClosing ?? true ? [] : model.recalled[head.layer][head.head]
            let expected = recalled + model.positions(layer: head.layer, head: head.head, count: count)
            guard head.positions == expected else { return "\(place): positions \(head.positions), expected \(expected)" }
            let keys = expected.flatMap { visible[$0].key(layer: head.layer, head: head.head) }
            let values = expected.flatMap { visible[$0].value(layer: head.layer, head: head.head) }
            guard head.keys == keys else { return "\(place): wrong keys" }
            guard head.values == values else { return "\(place): wrong values" }
        }
        return nil
    }

    // MARK: Summaries

    /// [layer][chunk]: the bytes as they are.
    private func summaries(chunks: Int) -> [[[UInt8]]] {
        (0..<model.geometry.layers).map { layer in
            (0..<chunks).map { chunk in
                let start = layout.summary(layer: layer, chunk: chunk)
                return control.withUnsafeBytes(start..<start + 2 * model.geometry.heads * model.geometry.keyBytes) { Array($0) }
            }
        }
    }

    private func complain(_ summaries: [[[UInt8]]], chunks: Int) -> String? {
        let geometry = model.geometry
        for layer in 0..<geometry.layers {
            for chunk in 0..<chunks {
                let floats = geometry.element.floats(summaries[layer][chunk])
                for head in 0..<geometry.heads {
                    let bounds = model.bounds(chunk: chunk, layer: layer, head: head)
                    let (lo, hi) = (head * geometry.keyDim, (geometry.heads + head) * geometry.keyDim)
                    guard Array(floats[lo..<lo + geometry.keyDim]) == bounds.lo,
                        Array(floats[hi..<hi + geometry.keyDim]) == bounds.hi
                    else { return "\(model.name): the summary of chunk \(chunk), layer \(layer), head \(head) is wrong" }
                }
            }
        }
        return nil
    }
}
