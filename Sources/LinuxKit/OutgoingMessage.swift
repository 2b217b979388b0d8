internal import CLinux

/// A message on its way out: a copy of the bytes, and the descriptors that go with the first of them.
public final class OutgoingMessage {
    let pointer: OpaquePointer
    /// Bytes that are not sent yet.
    public private(set) var remaining: Int
    private let descriptors: PassedDescriptors

    /// - Parameter descriptors: closed here once the message is gone; the receiver has duplicates.
    public init(_ bytes: [UInt8], descriptors: consuming PassedDescriptors = PassedDescriptors()) {
        precondition(descriptors.count == 0 || !bytes.isEmpty, "descriptors need a byte to go with")
        let numbers = descriptors.numbers
        self.descriptors = descriptors
        remaining = bytes.count
        let message = clinux_message_create(bytes, bytes.count, numbers, Int32(numbers.count))
        guard let message else { fatalError("no memory for a message of \(bytes.count) bytes") }
        pointer = message
    }

    deinit {
        clinux_message_free(pointer)
    }

    /// Takes off what the kernel has accepted.
    public func advance(by sent: Int) {
        precondition(sent > 0 && sent <= remaining, "\(sent) of \(remaining) bytes were sent")
        remaining = clinux_message_advance(pointer, sent)
    }
}
