internal import CLinux
internal import Glibc

/// The blocking side.
extension UnixSocket {
    /// Sends everything, waiting as long as the other side does not read.
    /// - Parameter descriptors: at most `PassedDescriptors.limit`; they go with the first byte, as duplicates.
    public borrowing func send(_ bytes: RawSpan, descriptors: [Int32] = []) throws(KernelError) {
        precondition(descriptors.count <= PassedDescriptors.limit, "\(descriptors.count) descriptors in one message")
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
        byteCount: Int, descriptors: inout PassedDescriptors
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
        into bytes: inout [UInt8], from offset: Int, _ descriptors: inout PassedDescriptors
    ) throws(KernelError) -> Int {
        let number = rawValue
        var (first, second, count) = (Int32(-1), Int32(-1), Int32(0))
        let received = try Kernel.call("recvmsg") {
            withUnsafeTemporaryAllocation(of: Int32.self, capacity: PassedDescriptors.limit) { numbers in
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
            throw KernelError(call: "recvmsg", detail: "more descriptors than \(PassedDescriptors.limit)", code: EMSGSIZE)
        }
        return received
    }
}
