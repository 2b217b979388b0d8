internal import CacheModel

/// What the bytes of an object mean: the part of a session's description that decides it, as 336 bytes that objects and
/// manifests share (FORMAT.md, “Description record”).
struct DescriptionRecord: Sendable, Hashable {
    let geometry: Geometry
    let policy: Policy
    let fingerprint: String

    static let byteCount = 336
    private static let layerBits = 48
    private static let fingerprintText = 80

    init(_ description: SessionDescription) {
        geometry = description.geometry
        policy = description.policy
        fingerprint = description.fingerprint
    }

    func store(into bytes: inout MutableRawSpan, at offset: Int) {
        bytes.zero(offset..<offset + Self.byteCount)
        // Safe: every number is within its limit, and every limit is below 2^32.
        let words = [
            geometry.layers, geometry.heads, geometry.keyDim, geometry.valueDim, Int(geometry.element.rawValue), policy.sink,
            policy.lag, fingerprint.utf8.count,
        ]
        for (index, word) in words.enumerated() { bytes.store(UInt32(word), at: offset + 4 * index) }
        bytes.store(policy.keepRatio.bitPattern, at: offset + 32)
        bytes.store(policy.valueWeight.bitPattern, at: offset + 40)
        var bits = [UInt8](repeating: 0, count: Limits.layers / 8)
        for layer in policy.uncompressedLayers { bits[layer / 8] |= 1 << UInt8(layer % 8) }
        bytes.copy(bits.span.bytes, at: offset + Self.layerBits)
        bytes.copy(Array(fingerprint.utf8).span.bytes, at: offset + Self.fingerprintText)
    }

    /// Reads and validates the record at `offset`.
    init(parsing bytes: RawSpan, at offset: Int, fault: Fault) throws(CacheError) {
        let words = (0..<8).map { Int(bytes.integer(at: offset + 4 * $0, as: UInt32.self)) }
        guard let element = UInt8(exactly: words[4]).flatMap(ElementType.init(rawValue:)) else {
            throw fault.corrupt("an element type", seen: words[4], expected: "1 to 5")
        }
        let layers = (0..<Limits.layers).filter { layer in
            bytes.integer(at: offset + Self.layerBits + layer / 8, as: UInt8.self) >> UInt8(layer % 8) & 1 == 1
        }
        do {
            geometry = try Geometry(layers: words[0], heads: words[1], keyDim: words[2], valueDim: words[3], element: element)
            policy = try Policy(
                sink: words[5], lag: words[6], keepRatio: Double(bitPattern: bytes.integer(at: offset + 32)),
                valueWeight: Double(bitPattern: bytes.integer(at: offset + 40)), uncompressedLayers: layers)
        } catch {
            throw fault.corrupt(error)
        }
        fingerprint = try Self.fingerprint(of: words[7], in: bytes, at: offset + Self.fingerprintText, fault)
        do {
            // Its other rules: the layers that exist, and the size of a chunk.
            _ = try SessionDescription(geometry: geometry, policy: policy, capacity: 1, fingerprint: fingerprint)
        } catch {
            throw fault.corrupt(error)
        }
    }

    private static func fingerprint(of count: Int, in bytes: RawSpan, at offset: Int, _ fault: Fault) throws(CacheError) -> String
    {
        guard count <= Limits.fingerprintBytes else {
            throw fault.corrupt("the length of a fingerprint", seen: count, expected: "at most \(Limits.fingerprintBytes)")
        }
        try fault.checkZero("bytes after the fingerprint", offset + count..<offset + Limits.fingerprintBytes, of: bytes)
        let text = (offset..<offset + count).map { bytes.integer(at: $0, as: UInt8.self) }
        guard let fingerprint = String(validating: text, as: UTF8.self) else {
            throw fault.corrupt("a fingerprint", seen: "\(text)", expected: "UTF-8")
        }
        return fingerprint
    }

    /// The first field in which this differs from `other`: its name, with both values.
    func difference(from other: DescriptionRecord) -> (field: String, mine: String, others: String)? {
        let fields: [(String, String, String)] = [
            // Text is compared as bytes: Swift's own comparison takes é and e with an accent for the same.
            ("fingerprint", "“\(fingerprint)”", "“\(other.fingerprint)”"),
            ("layers", "\(geometry.layers)", "\(other.geometry.layers)"),
            ("KV heads", "\(geometry.heads)", "\(other.geometry.heads)"),
            ("key dim", "\(geometry.keyDim)", "\(other.geometry.keyDim)"),
            ("value dim", "\(geometry.valueDim)", "\(other.geometry.valueDim)"),
            ("element type", geometry.element.name, other.geometry.element.name),
            ("sink", "\(policy.sink)", "\(other.policy.sink)"),
            ("lag", "\(policy.lag)", "\(other.policy.lag)"),
            ("keep ratio", "\(policy.keepRatio)", "\(other.policy.keepRatio)"),
            ("value weight", "\(policy.valueWeight)", "\(other.policy.valueWeight)"),
            ("uncompressed layers", "\(policy.uncompressedLayers)", "\(other.policy.uncompressedLayers)"),
        ]
        return fields.first { Array($0.1.utf8) != Array($0.2.utf8) }
    }
}
