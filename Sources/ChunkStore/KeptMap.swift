/// The kept tokens of one head in the object's form: bit t % 8 of byte t / 8 says that token t is kept. Fixed in length
/// whatever is kept, ascending by nature, and for r = 1/8 as short as a list of bytes.
enum KeptMap {
    /// Bytes for each head.
    static func byteCount(tokens: Int) -> Int { (tokens + 7) / 8 }

    /// Writes the map at `start` of `bytes`, which are zero there.
    static func store(_ offsets: Span<UInt32>, tokens: Int, into bytes: inout MutableRawSpan, at start: Int) {
        var next = 0
        for index in offsets.indices {
            let token = Int(offsets[index])
            precondition(token >= next && token < tokens, "kept offset \(token) does not ascend within \(tokens) tokens")
            let byte = bytes.bytes.integer(at: start + token / 8, as: UInt8.self)
            bytes.store(byte | 1 << UInt8(token % 8), at: start + token / 8)
            next = token + 1
        }
    }

    /// Reads the map at `start` of `bytes`.
    /// - Returns: false unless exactly `offsets.count` tokens below `tokens` are kept.
    static func load(_ bytes: RawSpan, at start: Int, tokens: Int, into offsets: inout MutableSpan<UInt32>) -> Bool {
        var found = 0
        for index in 0..<byteCount(tokens: tokens) {
            var bits = bytes.integer(at: start + index, as: UInt8.self)
            while bits != 0 {
                let token = index * 8 + bits.trailingZeroBitCount
                guard token < tokens, found < offsets.count else { return false }
                // Safe: an object has at most 2^24 tokens.
                offsets[found] = UInt32(token)
                found += 1
                bits &= bits - 1
            }
        }
        return found == offsets.count
    }

    /// Whether the first `sink` tokens are all kept: they are if the last of them is the one of that number.
    static func keepsSink(_ offsets: Span<UInt32>, sink: Int) -> Bool {
        sink == 0 || offsets.count >= sink && offsets[sink - 1] == UInt32(sink - 1)
    }
}
