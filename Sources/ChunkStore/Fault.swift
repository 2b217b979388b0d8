internal import CacheModel

/// Makes the errors about one file's bytes.
struct Fault {
    let path: String

    func corrupt(_ what: String, seen: some CustomStringConvertible, expected: some CustomStringConvertible) -> CacheError {
        CacheError(.corrupt, what, seen: "\(seen) in \(path)", expected: "\(expected)")
    }

    /// For values that a type's own initialiser refuses: what it said, as damage.
    func corrupt(_ error: CacheError) -> CacheError {
        corrupt(error.message, seen: error.seen, expected: error.expected)
    }

    func check<Value: Equatable>(_ what: String, _ seen: Value, is expected: Value) throws(CacheError) {
        guard seen == expected else { throw corrupt(what, seen: "\(seen)", expected: "\(expected)") }
    }

    func checkZero(_ what: String, _ range: Range<Int>, of bytes: RawSpan) throws(CacheError) {
        guard let offset = bytes.firstNonzero(in: range) else { return }
        throw corrupt(what, seen: "byte \(bytes.integer(at: offset, as: UInt8.self)) at \(offset)", expected: 0)
    }
}
