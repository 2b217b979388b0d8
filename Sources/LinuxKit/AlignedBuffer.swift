/// Page-aligned memory for direct I/O.
public final class AlignedBuffer: Sendable {}
