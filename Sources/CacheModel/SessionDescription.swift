/// Everything that is fixed when a session is created: what its manifest holds, and what each of its objects repeats so
/// that bytes of another model, shape or policy never pass for its own.
public struct SessionDescription: Sendable, Hashable {
    public let geometry: Geometry
    public let policy: Policy
    /// The most tokens the session may ever hold.
    public let capacity: Int
    /// What the keys and values mean: model, revision, tokenizer, rotary settings. Compared as text when a session is opened.
    public let fingerprint: String
    /// Other users may read it.
    public let isShared: Bool
    /// It may be deleted, least recently used first, when the disk budget is full.
    public let isDisposable: Bool

    /// - Throws: `limitExceeded` that names the limit, `badRequest` for a layer that the geometry does not have.
    public init(
        geometry: Geometry, policy: Policy, capacity: Int, fingerprint: String, isShared: Bool = false, isDisposable: Bool = false
    ) throws(CacheError) {
        try CacheError.check("capacity in tokens", capacity, in: 1...Limits.tokens)
        try CacheError.check("bytes of the fingerprint", fingerprint.utf8.count, in: 0...Limits.fingerprintBytes)
        if let last = policy.uncompressedLayers.last, last >= geometry.layers {
            throw CacheError(.badRequest, "uncompressed layer", seen: "\(last)", expected: "below \(geometry.layers), the number of layers")
        }
        // The largest object is chunk 0 with the sink, or a window of 2L − 1 tokens with it.
        let largest = (policy.sink + 2 * policy.lag) * geometry.tokenBytes
        try CacheError.check("bytes of the sink and two chunks", largest, in: 1...Limits.chunkBytes)
        self.geometry = geometry
        self.policy = policy
        self.capacity = capacity
        self.fingerprint = fingerprint
        self.isShared = isShared
        self.isDisposable = isDisposable
    }
}
