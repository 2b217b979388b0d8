internal import CacheModel
internal import WireProtocol

/// One frame, as it came.
struct Frame {
    let verb: UInt16
    let request: UInt64
    let payload: [UInt8]
}

/// Cuts a stream of bytes into frames. Holds one frame that is not complete, and what came behind it in one read.
struct FrameInbox {
    private var bytes: [UInt8] = []
    private var start = 0

    mutating func append(_ more: UnsafeRawBufferPointer) {
        bytes.removeFirst(start)
        start = 0
        bytes.append(contentsOf: more)
    }

    /// The next frame, if all of it is there.
    /// - Throws: `badFrame` or `limitExceeded` for an invalid header: where the next frame begins is not known then.
    mutating func next() throws(CacheError) -> Frame? {
        let available = bytes.count - start
        guard available >= FrameHeader.byteCount else { return nil }
        let header = try FrameHeader(parsing: bytes.span.bytes.extracting(start..<start + FrameHeader.byteCount))
        guard header.flags.isEmpty else {
            throw CacheError(.badFrame, "flags of a request", seen: "\(header.flags.rawValue)", expected: "0")
        }
        let end = start + FrameHeader.byteCount + header.length
        guard end <= bytes.count else { return nil }
        defer { start = end }
        return Frame(
            verb: header.verb, request: header.request, payload: Array(bytes[start + FrameHeader.byteCount..<end]))
    }
}
