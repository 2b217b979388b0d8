/// A part of another region, or all of it. It keeps that region alive.
public final class MemorySlice: MemoryRegion, @unchecked Sendable {
    public let baseAddress: UnsafeMutableRawPointer
    public let byteCount: Int
    private let whole: any MemoryRegion

    /// Traps where the region ends before the range does.
    public init(_ region: some MemoryRegion, _ range: Range<Int>) {
        baseAddress = region.address(range)
        byteCount = range.count
        whole = region
    }

    public convenience init(_ region: some MemoryRegion) { self.init(region, 0..<region.byteCount) }
}
