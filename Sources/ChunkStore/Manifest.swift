public import CacheModel

/// What is fixed about a session: the small file that makes a directory a session. See FORMAT.md.
public struct Manifest: Sendable, Hashable {
    /// The session's own, whatever it is called.
    public var id: ObjectID
    public var description: SessionDescription
    /// Milliseconds since 1970.
    public var createdMilliseconds: UInt64
    /// The user id of its owner.
    public var owner: UInt32

    public init(id: ObjectID, description: SessionDescription, createdMilliseconds: UInt64, owner: UInt32) {
        self.id = id
        self.description = description
        self.createdMilliseconds = createdMilliseconds
        self.owner = owner
    }

    /// Bytes of every manifest.
    public static let byteCount = 512

    private static let magic: UInt64 = 0x4E41_4D56_4B47_414C  // "LAGKVMAN"
    private static let version: UInt32 = 1
    private static let shared: UInt32 = 1 << 0
    private static let disposable: UInt32 = 1 << 1
    private static let recordOffset = 96

    public func encoded() -> [UInt8] {
        var file = [UInt8](repeating: 0, count: Self.byteCount)
        var span = file.mutableSpan
        var bytes = span.mutableBytes
        bytes.store(Self.magic, at: 0)
        bytes.store(Self.version, at: 8)
        bytes.store(id, at: 16)
        bytes.store(createdMilliseconds, at: 32)
        bytes.store(UInt64(description.capacity), at: 40)
        bytes.store(owner, at: 48)
        bytes.store((description.isShared ? Self.shared : 0) | (description.isDisposable ? Self.disposable : 0), at: 52)
        DescriptionRecord(description).store(into: &bytes, at: Self.recordOffset)
        let sum = crc32c(bytes.bytes.extracting(16..<Self.byteCount))
        bytes.store(sum, at: 12)
        return file
    }

    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - path: its name, for the error.
    /// - Throws: `corrupt` unless the file is a valid manifest.
    public init(parsing bytes: RawSpan, path: String) throws(CacheError) {
        let fault = Fault(path: path)
        try fault.check("the length of a manifest", bytes.byteCount, is: Self.byteCount)
        try fault.check("the first 8 bytes of a manifest", bytes.integer(at: 0, as: UInt64.self), is: Self.magic)
        try fault.check("the version of a manifest", bytes.integer(at: 8, as: UInt32.self), is: Self.version)
        let sum = crc32c(bytes.extracting(16..<Self.byteCount))
        try fault.check("the checksum of a manifest", bytes.integer(at: 12, as: UInt32.self), is: sum)
        let flags = bytes.integer(at: 52, as: UInt32.self)
        guard flags & ~(Self.shared | Self.disposable) == 0 else {
            throw fault.corrupt("the flags of a manifest", seen: flags, expected: "bits 0 and 1 only")
        }
        try fault.checkZero("reserved bytes of the manifest", 56..<Self.recordOffset, of: bytes)
        try fault.checkZero(
            "reserved bytes of the manifest", Self.recordOffset + DescriptionRecord.byteCount..<Self.byteCount, of: bytes)
        let record = try DescriptionRecord(parsing: bytes, at: Self.recordOffset, fault: fault)
        let capacity = bytes.integer(at: 40, as: UInt64.self)
        do {
            description = try SessionDescription(
                geometry: record.geometry, policy: record.policy, capacity: Int(clamping: capacity),
                fingerprint: record.fingerprint,
                isShared: flags & Self.shared != 0, isDisposable: flags & Self.disposable != 0)
        } catch {
            throw fault.corrupt(error)
        }
        id = bytes.id(at: 16)
        guard id != .none else { throw fault.corrupt("a session's id", seen: id, expected: "not 0") }
        createdMilliseconds = bytes.integer(at: 32)
        owner = bytes.integer(at: 48)
    }
}
