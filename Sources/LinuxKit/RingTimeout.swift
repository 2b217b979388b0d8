internal import CLinux

/// A span of time for the kernel to wait.
public final class RingTimeout {
    let pointer = UnsafeMutablePointer<clinux_timespec>.allocate(capacity: 1)

    public init(milliseconds: UInt64) {
        pointer.initialize(
            to: clinux_timespec(
                seconds: Int64(clamping: milliseconds / 1_000), nanoseconds: Int64(milliseconds % 1_000) * 1_000_000))
    }

    deinit {
        pointer.deallocate()
    }
}
