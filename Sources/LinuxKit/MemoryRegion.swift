public import Synchronization

/// Memory that stays where it is for as long as its object lives: an anonymous buffer, or a mapped file.
///
/// Several threads, and for shared files several processes, may read and write it at a time. That is sound as long as
/// nobody writes a range that another reads or writes; words that are meant to be raced for go through `loadAcquire` and
/// `storeRelease`. A range that a client can write must be copied once and checked before it is believed.
public protocol MemoryRegion: AnyObject, Sendable {
    /// The first byte. Not to be kept beyond the object's life.
    var baseAddress: UnsafeMutableRawPointer { get }
    var byteCount: Int { get }
}

extension MemoryRegion {
    /// The whole region.
    @inlinable
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let span = RawSpan(_unsafeStart: baseAddress, byteCount: byteCount)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// A part of the region. Traps beyond its end.
    @inlinable
    @_lifetime(borrow self)
    public func bytes(_ range: Range<Int>) -> RawSpan {
        let span = RawSpan(_unsafeStart: address(range), byteCount: range.count)
        return unsafe _overrideLifetime(span, borrowing: self)
    }

    /// A part of the region, to write. Traps beyond its end. Others may hold other parts meanwhile, on any thread.
    @inlinable
    @_lifetime(borrow self)
    public func mutableBytes(_ range: Range<Int>) -> MutableRawSpan {
        let span = MutableRawSpan(_unsafeStart: address(range), byteCount: range.count)
        return unsafe _overrideLifetime(span, borrowing: self)
    }

    /// A part of the region as a pointer, for the C kernels; it must not escape `body`.
    @inlinable
    public func withUnsafeBytes<Result: ~Copyable, Failure: Error>(
        _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: address(range), count: range.count))
    }

    /// As `withUnsafeBytes`, to write.
    @inlinable
    public func withUnsafeMutableBytes<Result: ~Copyable, Failure: Error>(
        _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeMutableRawBufferPointer(start: address(range), count: range.count))
    }

    /// Copies bytes `source` of this region to those from `target` on; the two may overlap.
    @inlinable
    public func move(_ source: Range<Int>, to target: Int) {
        address(target..<target + source.count).copyMemory(from: address(source), byteCount: source.count)
    }

    /// Copies bytes `source` of another region to those from `target` on.
    @inlinable
    public func copy(_ source: Range<Int>, of other: some MemoryRegion, to target: Int) {
        address(target..<target + source.count).copyMemory(from: other.address(source), byteCount: source.count)
    }

    /// Copies `bytes` to those from `target` on.
    @inlinable
    public func copy(_ bytes: RawSpan, to target: Int) {
        let place = address(target..<target + bytes.byteCount)
        bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { place.copyMemory(from: base, byteCount: source.count) }
        }
    }

    /// Stores one value, which need not be aligned.
    @inlinable
    public func store<Value: BitwiseCopyable>(_ value: Value, at offset: Int) {
        address(offset..<offset + MemoryLayout<Value>.size).storeBytes(of: value, as: Value.self)
    }

    /// Loads one value, which need not be aligned.
    @inlinable
    public func load<Value: BitwiseCopyable>(at offset: Int, as type: Value.Type) -> Value {
        UnsafeRawPointer(address(offset..<offset + MemoryLayout<Value>.size)).loadUnaligned(as: type)
    }

    @inlinable
    func address(_ range: Range<Int>) -> UnsafeMutableRawPointer {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= byteCount, "bytes \(range) lie outside a region of \(byteCount)")
        return baseAddress + range.lowerBound
    }
}

/// Words that two processes race for. Offsets are multiples of 8.
extension MemoryRegion {
    /// What the other side stored with release order is seen whole once this load has seen its word.
    @inlinable
    public func loadAcquire(at offset: Int) -> UInt64 { word(offset).pointee.load(ordering: .acquiring) }

    @inlinable
    public func loadRelaxed(at offset: Int) -> UInt64 { word(offset).pointee.load(ordering: .relaxed) }

    /// Everything written before is seen by whoever loads this word with acquire order.
    @inlinable
    public func storeRelease(_ value: UInt64, at offset: Int) { word(offset).pointee.store(value, ordering: .releasing) }

    @inlinable
    public func storeRelaxed(_ value: UInt64, at offset: Int) { word(offset).pointee.store(value, ordering: .relaxed) }

    @inlinable
    func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        precondition(offset % 8 == 0, "the word at \(offset) is not aligned")
        // Safe: the mapping is page-aligned, and Atomic<UInt64> is laid out as UInt64 and needs no initialisation.
        return address(offset..<offset + 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
}

/// The fences of the order that readers and the writer of a control page agree on.
public enum Fence {
    /// No later read or write moves before an earlier read.
    @inlinable
    public static func acquire() { atomicMemoryFence(ordering: .acquiring) }

    /// No earlier read or write moves after a later write.
    @inlinable
    public static func release() { atomicMemoryFence(ordering: .releasing) }
}
