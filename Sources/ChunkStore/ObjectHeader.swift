public import CacheModel

/// Which tokens an object holds, whose they are, and what the bytes mean.
public struct ObjectHeader: Sendable, Hashable {
    public enum Kind: UInt32, Sendable, CaseIterable {
        /// A sealed chunk; chunk 0 with the sink before it.
        case chunk = 1
        /// The tokens that are not sealed yet.
        case window = 2
    }

    public let kind: Kind
    public let id: ObjectID
    /// The object of the chunk before; `none` where there is none.
    public let parent: ObjectID
    /// Grows with every object of a session.
    public let sequence: UInt64
    /// The chunk, or for a window how many sealed chunks lie before it.
    public let chunk: Int
    /// Tokens in the object; may be 0 for a window.
    public let tokenCount: Int
    let record: DescriptionRecord

    public var geometry: Geometry { record.geometry }
    public var policy: Policy { record.policy }
    public var fingerprint: String { record.fingerprint }

    /// Sealed chunk `chunk`, whole; chunk 0 with the sink.
    public static func chunk(
        _ chunk: Int, of description: SessionDescription, id: ObjectID, parent: ObjectID, sequence: UInt64
    ) -> ObjectHeader {
        let policy = description.policy
        return ObjectHeader(
            kind: .chunk, id: id, parent: parent, sequence: sequence, chunk: chunk,
            tokenCount: policy.lag + (chunk == 0 ? policy.sink : 0), record: DescriptionRecord(description))
    }

    /// The `tokenCount` tokens that follow the first `sealedChunks` chunks.
    public static func window(
        after sealedChunks: Int, tokenCount: Int, of description: SessionDescription, id: ObjectID, parent: ObjectID,
        sequence: UInt64
    ) -> ObjectHeader {
        ObjectHeader(
            kind: .window, id: id, parent: parent, sequence: sequence, chunk: sealedChunks, tokenCount: tokenCount,
            record: DescriptionRecord(description))
    }

    /// The position of the object's first token: 0 where the sink is in it.
    public var firstPosition: Int { chunk == 0 ? 0 : policy.firstPosition(ofChunk: chunk) }

    /// Tokens of the sink that are in the object.
    public var sink: Int { kind == .chunk && chunk == 0 ? policy.sink : 0 }

    /// Tokens of each head of `layer` in the kept part.
    public func keptCount(layer: Int) -> Int { tokenCount - evictedCount(layer: layer) }

    /// Tokens of each head of `layer` in the evicted part.
    public func evictedCount(layer: Int) -> Int { kind == .chunk ? policy.evicted(inLayer: layer) : 0 }
}

extension ObjectHeader {
    static let magic: UInt64 = 0x4A42_4F56_4B47_414C  // "LAGKVOBJ"
    static let version: UInt32 = 2
    /// Bytes before the index.
    static let byteCount = 512

    private static let recordOffset = 96
    private static let reserved = recordOffset + DescriptionRecord.byteCount..<byteCount

    /// Everything but the checksum, which covers the index as well.
    func store(into bytes: inout MutableRawSpan, headerBytes: Int, fileBytes: Int) {
        bytes.zero(0..<Self.byteCount)
        bytes.store(Self.magic, at: 0)
        bytes.store(Self.version, at: 8)
        // Safe: at most 512 + 12 · (1 + 4 · 256 + 2 · 65,536) bytes.
        bytes.store(UInt32(headerBytes), at: 16)
        bytes.store(kind.rawValue, at: 20)
        bytes.store(UInt64(fileBytes), at: 24)
        bytes.store(id, at: 32)
        bytes.store(parent, at: 48)
        bytes.store(sequence, at: 64)
        bytes.store(UInt64(chunk), at: 72)
        bytes.store(UInt64(firstPosition), at: 80)
        bytes.store(UInt64(tokenCount), at: 88)
        record.store(into: &bytes, at: Self.recordOffset)
    }

    static func storeChecksum(into bytes: inout MutableRawSpan, headerBytes: Int) {
        let sum = crc32c(bytes.bytes.extracting(16..<headerBytes))
        bytes.store(sum, at: 12)
    }

    /// Reads the header whose magic, version and checksum have been found right.
    init(parsing bytes: RawSpan, fault: Fault) throws(CacheError) {
        let kindNumber = bytes.integer(at: 20, as: UInt32.self)
        guard let kind = Kind(rawValue: kindNumber) else {
            throw fault.corrupt("an object's kind", seen: kindNumber, expected: "1 or 2")
        }
        try fault.checkZero("reserved bytes of the header", Self.reserved, of: bytes)
        let record = try DescriptionRecord(parsing: bytes, at: Self.recordOffset, fault: fault)
        let chunk = bytes.integer(at: 72, as: UInt64.self)
        let tokenCount = bytes.integer(at: 88, as: UInt64.self)
        guard chunk <= UInt64(Limits.tokens), tokenCount <= UInt64(Limits.tokens) else {
            throw fault.corrupt("chunk and tokens", seen: "\(chunk), \(tokenCount)", expected: "at most \(Limits.tokens)")
        }
        self.init(
            kind: kind, id: bytes.id(at: 32), parent: bytes.id(at: 48), sequence: bytes.integer(at: 64), chunk: Int(chunk),
            tokenCount: Int(tokenCount), record: record)
        try check(firstPosition: bytes.integer(at: 80), fault: fault)
    }

    /// What is in the header twice, or follows from the policy.
    private func check(firstPosition seen: UInt64, fault: Fault) throws(CacheError) {
        try fault.check("the first position", seen, is: UInt64(firstPosition))
        guard id != .none else { throw fault.corrupt("an object's id", seen: id, expected: "not 0") }
        guard (chunk == 0) == (parent == .none) else {
            throw fault.corrupt(
                "the parent of an object after \(chunk) chunks", seen: parent, expected: chunk == 0 ? "0" : "not 0")
        }
        let sink = chunk == 0 ? policy.sink : 0
        switch kind {
        case .chunk: try fault.check("the tokens of a chunk", tokenCount, is: sink + policy.lag)
        case .window:
            guard tokenCount < sink + 2 * policy.lag else {
                throw fault.corrupt("the tokens of a window", seen: tokenCount, expected: "below \(sink + 2 * policy.lag)")
            }
        }
        guard firstPosition + tokenCount <= Limits.tokens else {
            throw fault.corrupt("the end of an object", seen: firstPosition + tokenCount, expected: "at most \(Limits.tokens)")
        }
    }
}
