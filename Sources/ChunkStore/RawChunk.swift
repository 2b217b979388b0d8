public import CacheModel
public import LinuxKit

/// Tokens [firstPosition, firstPosition + tokenCount) of a session as they were appended, every layer and head, in one
/// buffer: per layer the keys [heads, tokens, keyDim], then the values [heads, tokens, valueDim]; after all layers the
/// token ids, u32 each, little-endian. Nothing between them.
public final class RawChunk: Sendable {
    public let geometry: Geometry
    public let firstPosition: Int
    public let tokenCount: Int
    public let buffer: MemorySlice

    /// - Parameter buffer: at least `byteCount(geometry:tokenCount:)` bytes; longer is fine.
    public convenience init(geometry: Geometry, firstPosition: Int, tokenCount: Int, buffer: AlignedBuffer) {
        self.init(geometry: geometry, firstPosition: firstPosition, tokenCount: tokenCount, buffer: MemorySlice(buffer))
    }

    /// - Parameter buffer: at least `byteCount(geometry:tokenCount:)` bytes; longer is fine. What a client can write may be here:
    ///   whoever reads it twice may see two different things.
    public init(geometry: Geometry, firstPosition: Int, tokenCount: Int, buffer: MemorySlice) {
        precondition(buffer.byteCount >= Self.byteCount(geometry: geometry, tokenCount: tokenCount), "the buffer is too short")
        self.geometry = geometry
        self.firstPosition = firstPosition
        self.tokenCount = tokenCount
        self.buffer = buffer
    }

    /// Bytes of the buffer that the tokens take.
    public var byteCount: Int { Self.byteCount(geometry: geometry, tokenCount: tokenCount) }

    public static func byteCount(geometry: Geometry, tokenCount: Int) -> Int {
        tokenCount * (geometry.tokenBytes + MemoryLayout<UInt32>.size)
    }

    /// Where in the buffer the keys of one head are: tokenCount × keyBytes.
    public func keys(layer: Int, head: Int) -> Range<Int> {
        let start = keys(layer: layer).lowerBound + head * tokenCount * geometry.keyBytes
        return start..<start + tokenCount * geometry.keyBytes
    }

    /// Where in the buffer the values of one head are: tokenCount × valueBytes.
    public func values(layer: Int, head: Int) -> Range<Int> {
        let start = values(layer: layer).lowerBound + head * tokenCount * geometry.valueBytes
        return start..<start + tokenCount * geometry.valueBytes
    }

    /// Where in the buffer the keys of a layer are, head after head.
    public func keys(layer: Int) -> Range<Int> {
        let start = layer * tokenCount * geometry.layerTokenBytes
        return start..<start + tokenCount * geometry.heads * geometry.keyBytes
    }

    /// Where in the buffer the values of a layer are, head after head.
    public func values(layer: Int) -> Range<Int> {
        let start = keys(layer: layer).upperBound
        return start..<start + tokenCount * geometry.heads * geometry.valueBytes
    }

    /// Where in the buffer the token ids are.
    public var ids: Range<Int> {
        let start = tokenCount * geometry.tokenBytes
        return start..<start + tokenCount * MemoryLayout<UInt32>.size
    }
}
