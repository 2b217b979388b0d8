public import CacheModel

/// Where things lie in the two shared files of a session. Every number is in bytes unless said; PROTOCOL.md, section 2,
/// draws them.
public struct SharedLayout: Sendable, Hashable {
    /// Size of the slab file.
    public var slabBytes = 0
    /// Size of the control file.
    public var controlBytes = 0
    /// Slab file: token ids, u32[capacity].
    public var idsOffset = 0
    /// Slab file: where layer 0 begins.
    public var layersOffset = 0
    public var layerStride = 0
    /// Distance between two heads' keys of one layer.
    public var keyHeadStride = 0
    /// Distance between two heads' values of one layer.
    public var valueHeadStride = 0
    /// From the beginning of a layer to its values.
    public var valuesOffset = 0
    /// From the beginning of a head to the key of row 0.
    public var keyBase = 0
    /// From the beginning of a head to the value of row 0.
    public var valueBase = 0
    /// Rows that fit to the left of row 0, at most.
    public var recallRows = 0
    /// Rows that fit from row 0 on.
    public var rows = 0
    /// Control file: 16 bytes a layer.
    public var layerTableOffset = 0
    public var positionsOffset = 0
    public var positionsLayerStride = 0
    public var positionsHeadStride = 0
    public var summariesOffset = 0
    public var summariesLayerStride = 0
    public var summariesChunkStride = 0

    public init() {}

    /// The fields in the order of the wire.
    private static var fields: [WritableKeyPath<SharedLayout, Int>] {
        [
            \.slabBytes, \.controlBytes, \.idsOffset, \.layersOffset, \.layerStride, \.keyHeadStride, \.valueHeadStride,
            \.valuesOffset, \.keyBase, \.valueBase, \.recallRows, \.rows, \.layerTableOffset, \.positionsOffset,
            \.positionsLayerStride, \.positionsHeadStride, \.summariesOffset, \.summariesLayerStride, \.summariesChunkStride,
        ]
    }
}

/// Offsets from the beginning of the slab file (keys, values) or the control file (the rest). Row i of a head lies i times
/// the key's (value's, position's) bytes further, to the left for the negative rows of recalled tokens.
extension SharedLayout {
    /// The key of row 0.
    public func keys(layer: Int, head: Int) -> Int { layersOffset + layer * layerStride + head * keyHeadStride + keyBase }

    /// The value of row 0.
    public func values(layer: Int, head: Int) -> Int {
        layersOffset + layer * layerStride + valuesOffset + head * valueHeadStride + valueBase
    }

    /// The position of row 0.
    public func positions(layer: Int, head: Int) -> Int {
        positionsOffset + layer * positionsLayerStride + head * positionsHeadStride + 4 * recallRows
    }

    /// The layer's entry of the layer table.
    public func layerEntry(_ layer: Int) -> Int { layerTableOffset + layer * ControlPage.layerEntryBytes }

    /// `lo[heads, keyDim]`, then `hi[heads, keyDim]`, of a sealed chunk.
    public func summary(layer: Int, chunk: Int) -> Int {
        summariesOffset + layer * summariesLayerStride + chunk * summariesChunkStride
    }
}

extension SharedLayout: WireValue {
    public static var fewestBytes: Int { 19 * 8 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        self.init()
        for field in Self.fields { self[keyPath: field] = try reader.int64() }
    }

    public func write(to writer: inout ByteWriter) {
        for field in Self.fields { writer.int64(self[keyPath: field]) }
    }
}
