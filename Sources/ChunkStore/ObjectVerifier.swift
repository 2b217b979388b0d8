public import CacheModel

/// Checks every byte of an object without believing any.
public enum ObjectVerifier {
    /// Header, index, padding, and every block: its sum, and that it decodes.
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - path: its name, for the error.
    ///   - description: what it must have been written for; nil takes any.
    /// - Returns: what the object says that it is, for checks against its neighbours.
    public static func verify(
        _ bytes: RawSpan, path: String, expecting description: SessionDescription?, scratch: CodecScratch
    ) throws(CacheError) -> ObjectHeader {
        let index = try ObjectIndex(parsing: bytes, fileSize: bytes.byteCount, path: path, expecting: description)
        let fault = Fault(path: path)
        let evictedStart = index.evictedRange.lowerBound
        try fault.checkZero("padding after the kept part", index.keptRange.upperBound..<evictedStart, of: bytes)
        try fault.checkZero("padding after the evicted part", index.evictedRange.upperBound..<bytes.byteCount, of: bytes)
        for layer in 0..<index.header.geometry.layers {
            _ = try index.summaries(layer: layer, in: bytes.extracting(index.keptRange(layer: layer)))
        }
        _ = try index.decodeChunk(bytes, scratch: scratch)
        return index.header
    }
}
