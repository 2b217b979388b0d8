internal import CLinux
internal import Glibc

/// Descriptors that came with a message; those that nobody takes are closed.
public struct ReceivedDescriptors: ~Copyable, Sendable {
    public private(set) var count = 0
    private var first: Descriptor?
    private var second: Descriptor?

    /// The most that one message carries.
    public static let limit = 2

    public init() {}

    /// The one that came first of those that are left.
    public mutating func takeFirst() -> Descriptor? {
        guard let taken = first.take() else { return nil }
        first = second.take()
        count -= 1
        return taken
    }

    /// - Returns: false, and the descriptor is closed, when there is no room.
    mutating func append(_ descriptor: consuming Descriptor) -> Bool {
        switch count {
        case 0: first = consume descriptor
        case 1: second = consume descriptor
        default: return false
        }
        count += 1
        return true
    }
}

/// The blocking side.
extension UnixSocket {
    /// Sends everything, waiting as long as the other side does not read.
    /// - Parameter descriptors: at most `ReceivedDescriptors.limit`; they go with the first byte, as duplicates.
    public borrowing func send(_ bytes: RawSpan, descriptors: [Int32] = []) throws(KernelError) {
        precondition(descriptors.count <= ReceivedDescriptors.limit, "\(descriptors.count) descriptors in one message")
        precondition(descriptors.isEmpty || bytes.byteCount > 0, "descriptors need a byte to go with")
        let number = rawValue
        var sent = 0
        while sent < bytes.byteCount {
            let riding = sent == 0 ? descriptors : []
            let rest = bytes.extracting(sent..<bytes.byteCount)
            sent += try Kernel.call("sendmsg") {
                rest.withUnsafeBytes { clinux_send(number, $0.baseAddress, $0.count, riding, Int32(riding.count)) }
            }
        }
    }

    /// Waits until exactly `byteCount` bytes have come.
    /// - Parameter descriptors: takes what comes with them.
    /// - Throws: ECONNRESET when the other side closes before; EMSGSIZE when more descriptors come than there is room for.
    public borrowing func receive(
        byteCount: Int, descriptors: inout ReceivedDescriptors
    ) throws(KernelError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var filled = 0
        while filled < byteCount {
            let received = try receiveSome(into: &bytes, from: filled, &descriptors)
            guard received > 0 else {
                throw KernelError(call: "recvmsg", detail: "the other side closed the connection", code: ECONNRESET)
            }
            filled += received
        }
        return bytes
    }

    private borrowing func receiveSome(
        into bytes: inout [UInt8], from offset: Int, _ descriptors: inout ReceivedDescriptors
    ) throws(KernelError) -> Int {
        let number = rawValue
        var (first, second, count) = (Int32(-1), Int32(-1), Int32(0))
        let received = try Kernel.call("recvmsg") {
            withUnsafeTemporaryAllocation(of: Int32.self, capacity: ReceivedDescriptors.limit) { numbers in
                numbers.initialize(repeating: -1)
                defer { (first, second) = (numbers[0], numbers[1]) }
                return bytes.withUnsafeMutableBytes {
                    clinux_receive(number, $0.baseAddress! + offset, $0.count - offset, numbers.baseAddress, &count)
                }
            }
        }
        var fits = true
        if count > 0 { fits = descriptors.append(Descriptor(owning: first)) }
        if count > 1 { fits = descriptors.append(Descriptor(owning: second)) && fits }
        guard fits else {
            throw KernelError(call: "recvmsg", detail: "more descriptors than \(ReceivedDescriptors.limit)", code: EMSGSIZE)
        }
        return received
    }
}
