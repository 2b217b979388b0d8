internal import CLinux
internal import Glibc

/// A thread of the kernel's own, with a name to find it by in `top -H`.
public final class KernelThread: @unchecked Sendable {
    private let handle: pthread_t

    /// Starts it.
    /// - Parameters:
    ///   - name: at most 15 bytes; the rest is cut.
    ///   - niceness: 0, or up to 19 to give way to others; it cannot be taken back.
    ///   - byteCount: of its stack.
    public init(name: String, niceness: Int32 = 0, stack byteCount: Int = 8 << 20, _ body: @escaping @Sendable () -> Void) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, byteCount)
        defer { pthread_attr_destroy(&attributes) }
        let start = Unmanaged.passRetained(
            Start {
                clinux_name_thread(name)
                // Being refused niceness costs speed at worst.
                if niceness > 0 { _ = clinux_nice_thread(niceness) }
                body()
            })
        var handle = pthread_t()
        let code = pthread_create(
            &handle, &attributes,
            { argument in
                // Safe: the argument is the `Start` retained above; it is released here, once.
                Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, start.toOpaque())
        guard code == 0 else { fatalError("no thread \(name): \(Kernel.describe(errno: code))") }
        self.handle = handle
    }

    /// Waits until its body has returned. Call it once.
    public func join() {
        pthread_join(handle, nil)
    }

    private final class Start {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}
