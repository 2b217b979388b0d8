internal import Glibc

extension RawSpan {
    func isEqual(to other: RawSpan) -> Bool {
        guard byteCount == other.byteCount, byteCount > 0 else { return byteCount == other.byteCount }
        // Safe: both are byteCount bytes, and not empty, so neither address is null.
        return withUnsafeBytes { left in other.withUnsafeBytes { memcmp(left.baseAddress!, $0.baseAddress!, $0.count) == 0 } }
    }
}

extension MutableRawSpan {
    /// - Precondition: `source` is no longer than this.
    mutating func copyBytes(from source: RawSpan) {
        withUnsafeMutableBytes { target in source.withUnsafeBytes { target.copyMemory(from: $0) } }
    }
}
