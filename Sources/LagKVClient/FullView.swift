internal import CacheModel
internal import LinuxKit
internal import WireProtocol

/// Every token of one layer, bit for bit as it was appended, in memory that is the caller's alone.
public struct FullView {
    public let tokens: Int
    private let layout: FullLayout
    private let geometry: Geometry
    private let file: MappedFile

    init(_ descriptor: consuming Descriptor, _ layout: FullLayout, _ geometry: Geometry) throws(ClientError) {
        do { file = try MappedFile(descriptor, writable: false) } catch { throw .kernel(error) }
        tokens = layout.tokens
        self.layout = layout
        self.geometry = geometry
        guard layout.bytes == file.byteCount, fits else {
            throw .badReply(
                CacheError(
                    .badRequest, "the layout of a full view", seen: "\(layout)", expected: "what lies in \(file.byteCount) bytes")
            )
        }
    }

    /// Whether everything lies inside the file. No number exceeds it, so no sum or product overflows.
    private var fits: Bool {
        let numbers = [
            layout.tokens, layout.keysOffset, layout.keyHeadStride, layout.valuesOffset, layout.valueHeadStride, layout.idsOffset,
        ]
        guard numbers.allSatisfy({ $0 <= file.byteCount }), file.byteCount <= Limits.slabBytes else { return false }
        let last = geometry.heads - 1
        return max(
            layout.keysOffset + last * layout.keyHeadStride + tokens * geometry.keyBytes,
            layout.valuesOffset + last * layout.valueHeadStride + tokens * geometry.valueBytes,
            layout.idsOffset + 4 * tokens) <= file.byteCount && layout.idsOffset % 4 == 0
    }

    /// [tokens, keyDim] of the element type.
    @_lifetime(borrow self)
    public func keys(head: Int) -> RawSpan {
        precondition((0..<geometry.heads).contains(head), "head \(head) of \(geometry.heads)")
        let first = layout.keysOffset + head * layout.keyHeadStride
        return file.bytes(first..<first + tokens * geometry.keyBytes)
    }

    /// [tokens, valueDim] of the element type.
    @_lifetime(borrow self)
    public func values(head: Int) -> RawSpan {
        precondition((0..<geometry.heads).contains(head), "head \(head) of \(geometry.heads)")
        let first = layout.valuesOffset + head * layout.valueHeadStride
        return file.bytes(first..<first + tokens * geometry.valueBytes)
    }

    /// The token ids.
    public var ids: Span<UInt32> {
        @_lifetime(borrow self)
        get { Span(_bytes: file.bytes(layout.idsOffset..<layout.idsOffset + 4 * tokens)) }
    }
}
