/// The shape of one session's cache. Every layer has the same shape.
public struct Geometry: Sendable, Hashable {
    public let layers: Int
    /// KV heads, not query heads.
    public let heads: Int
    /// Numbers in one key.
    public let keyDim: Int
    /// Numbers in one value; may differ from `keyDim`.
    public let valueDim: Int
    public let element: ElementType

    /// - Throws: `limitExceeded` that names the limit.
    public init(layers: Int, heads: Int, keyDim: Int, valueDim: Int, element: ElementType) throws(CacheError) {
        try CacheError.check("layers", layers, in: 1...Limits.layers)
        try CacheError.check("KV heads", heads, in: 1...Limits.heads)
        try CacheError.check("key dim", keyDim, in: 1...Limits.channels)
        try CacheError.check("value dim", valueDim, in: 1...Limits.channels)
        self.layers = layers
        self.heads = heads
        self.keyDim = keyDim
        self.valueDim = valueDim
        self.element = element
    }

    /// Bytes of one key of one head.
    public var keyBytes: Int { keyDim * element.byteCount }
    /// Bytes of one value of one head.
    public var valueBytes: Int { valueDim * element.byteCount }
    /// Bytes of one token's key and value in one head of one layer.
    public var rowBytes: Int { keyBytes + valueBytes }
    /// Bytes of one token over all heads of one layer.
    public var layerTokenBytes: Int { heads * rowBytes }
    /// Bytes of one token over all layers and heads.
    public var tokenBytes: Int { layers * layerTokenBytes }
}
