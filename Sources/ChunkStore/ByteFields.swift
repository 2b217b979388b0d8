/// The fixed tables of FORMAT.md: little-endian integers at fixed offsets.
extension RawSpan {
    func integer<Value: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Value.Type = Value.self) -> Value {
        Value(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }

    func id(at offset: Int) -> ObjectID {
        ObjectID(high: integer(at: offset), low: integer(at: offset + 8))
    }

    /// The offset of the first byte that is not 0.
    func firstNonzero(in range: Range<Int>) -> Int? {
        extracting(range).withUnsafeBytes { bytes in bytes.firstIndex { $0 != 0 } }.map { range.lowerBound + $0 }
    }
}

extension MutableRawSpan {
    @_lifetime(self: copy self)
    mutating func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }

    @_lifetime(self: copy self)
    mutating func store(_ id: ObjectID, at offset: Int) {
        store(id.high, at: offset)
        store(id.low, at: offset + 8)
    }

    @_lifetime(self: copy self)
    mutating func zero(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        withUnsafeMutableBytes {
            _ = UnsafeMutableRawBufferPointer(rebasing: $0[range]).initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    @_lifetime(self: copy self)
    mutating func copy(_ bytes: RawSpan, at offset: Int) {
        guard !bytes.isEmpty else { return }
        let range = offset..<offset + bytes.byteCount
        withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: target[range]).copyMemory(from: $0) }
        }
    }
}
