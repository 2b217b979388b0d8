/// One thing for the kernel to do. Pointers must stay valid until its completion.
public enum RingOperation {
    /// Answers the new connection's descriptor, close-on-exec.
    case accept(listener: Int32)
    /// Answers how many bytes came, 0 at the end. Descriptors that came with them are closed unseen.
    case receive(Int32, UnsafeMutableRawBufferPointer)
    case send(Int32, OutgoingMessage)
    /// Answers the descriptor. Never leaves `directory`, never follows a symbolic link.
    case open(directory: Int32, path: UnsafePointer<CChar>, OpenRequest)
    case read(Int32, UnsafeMutableRawBufferPointer, offset: Int)
    case write(Int32, UnsafeRawBufferPointer, offset: Int)
    case sync(Int32)
    /// Gives the file at `path` a second name.
    case link(directory: Int32, path: UnsafePointer<CChar>, newPath: UnsafePointer<CChar>)
    /// Gives an open file that has no name one. `source` is its path below /proc.
    case linkOpenFile(source: UnsafePointer<CChar>, directory: Int32, newPath: UnsafePointer<CChar>)
    case rename(directory: Int32, path: UnsafePointer<CChar>, newPath: UnsafePointer<CChar>)
    case unlink(directory: Int32, path: UnsafePointer<CChar>, isDirectory: Bool)
    case makeDirectory(directory: Int32, path: UnsafePointer<CChar>)
    /// Completes with ETIME when the time is over.
    case timeout(RingTimeout)
    /// Cancels the operation whose user data this is.
    case cancel(userData: UInt64)
}

extension RingOperation {
    /// Bytes that one read or write asks for at most (1 GiB); the kernel would cut it at 2 GiB − 4 KiB.
    public static let transferLimit = 1 << 30
}
