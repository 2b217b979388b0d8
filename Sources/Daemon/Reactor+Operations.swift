internal import CacheLoop
internal import Glibc
internal import LinuxKit

/// Sockets.
extension Reactor {
    /// Waits for the next connection.
    func accept(on listener: RingFile) async throws(KernelError) -> RingFile {
        let number = try await attempt("accept", keeping: [listener], isPatient: true) { .accept(listener: listener.rawValue) }
        return RingFile(Descriptor(owning: number))
    }

    /// Waits for bytes. Descriptors that come with them are closed unseen, as plain `recv` does.
    /// - Returns: how many bytes came, 0 when the other side has closed.
    func receive(
        from socket: RingFile, into memory: any MemoryRegion, _ range: Range<Int>
    ) async throws(KernelError) -> Int {
        let bytes = memory.pointer(to: range)
        return Int(
            try await attempt("recv", keeping: [socket, memory], isPatient: true) { .receive(socket.rawValue, bytes) })
    }

    /// Sends everything; waits while the other side does not read.
    /// - Parameter descriptors: go with the first byte, as duplicates; they are closed here afterwards.
    func send(
        _ bytes: [UInt8], descriptors: consuming PassedDescriptors = PassedDescriptors(), on socket: RingFile
    ) async throws(KernelError) {
        let message = OutgoingMessage(bytes, descriptors: descriptors)
        while message.remaining > 0 {
            let sent = try await attempt("sendmsg", keeping: [socket, message], isPatient: true) {
                .send(socket.rawValue, message)
            }
            message.advance(by: Int(sent))
        }
    }
}

/// Files. Paths are relative to `directory`.
extension Reactor {
    func open(_ path: String, in directory: RingFile, _ kind: OpenRequest.Kind, direct: Bool = false) async throws(KernelError)
        -> RingFile
    {
        let (name, request) = (PathBytes(path), OpenRequest(kind, direct: direct))
        let number = try await attempt("openat2", path, keeping: [directory, name, request]) {
            .open(directory: directory.rawValue, path: name.pointer, request)
        }
        return RingFile(Descriptor(owning: number))
    }

    /// Reads once, at most `RingOperation.transferLimit` bytes.
    /// - Returns: bytes read, 0 at the end of the file.
    func read(
        _ file: RingFile, at offset: Int, into memory: any MemoryRegion, _ range: Range<Int>
    ) async throws(KernelError) -> Int {
        let bytes = memory.pointer(to: range)
        return Int(try await attempt("read", keeping: [file, memory]) { .read(file.rawValue, bytes, offset: offset) })
    }

    /// Writes once, at most `RingOperation.transferLimit` bytes.
    /// - Returns: bytes written.
    func write(
        _ file: RingFile, at offset: Int, from memory: any MemoryRegion, _ range: Range<Int>
    ) async throws(KernelError) -> Int {
        let bytes = UnsafeRawBufferPointer(memory.pointer(to: range))
        return Int(try await attempt("write", keeping: [file, memory]) { .write(file.rawValue, bytes, offset: offset) })
    }

    /// Waits until the file's bytes and size, or the directory's names, are on the disk.
    func sync(_ file: RingFile) async throws(KernelError) {
        try await attempt("fsync", keeping: [file]) { .sync(file.rawValue) }
    }

    func link(_ path: String, as newPath: String, in directory: RingFile) async throws(KernelError) {
        let (name, newName) = (PathBytes(path), PathBytes(newPath))
        try await attempt("linkat", newPath, keeping: [directory, name, newName]) {
            .link(directory: directory.rawValue, path: name.pointer, newPath: newName.pointer)
        }
    }

    /// Gives a file that was opened as `unnamed` its name.
    func link(_ file: RingFile, as newPath: String, in directory: RingFile) async throws(KernelError) {
        // The way that needs no privilege; linking by descriptor alone (AT_EMPTY_PATH) needs one before Linux 6.10.
        let (source, newName) = (PathBytes("/proc/self/fd/\(file.rawValue)"), PathBytes(newPath))
        try await attempt("linkat", newPath, keeping: [file, directory, source, newName]) {
            .linkOpenFile(source: source.pointer, directory: directory.rawValue, newPath: newName.pointer)
        }
    }

    /// Replaces what is at `newPath`.
    func rename(_ path: String, to newPath: String, in directory: RingFile) async throws(KernelError) {
        let (name, newName) = (PathBytes(path), PathBytes(newPath))
        try await attempt("renameat", newPath, keeping: [directory, name, newName]) {
            .rename(directory: directory.rawValue, path: name.pointer, newPath: newName.pointer)
        }
    }

    func unlink(_ path: String, in directory: RingFile, isDirectory: Bool = false) async throws(KernelError) {
        let name = PathBytes(path)
        try await attempt("unlinkat", path, keeping: [directory, name]) {
            .unlink(directory: directory.rawValue, path: name.pointer, isDirectory: isDirectory)
        }
    }

    func makeDirectory(_ path: String, in directory: RingFile) async throws(KernelError) {
        let name = PathBytes(path)
        try await attempt("mkdirat", path, keeping: [directory, name]) {
            .makeDirectory(directory: directory.rawValue, path: name.pointer)
        }
    }
}

/// Time and signals.
extension Reactor {
    /// Waits. When the loop stops it ends early and cancels its own task, so that what runs every so often should run
    /// `while !Task.isCancelled`; a task that sleeps once more sleeps for good.
    func sleep(milliseconds: UInt64) async {
        let timeout = RingTimeout(milliseconds: milliseconds)
        // The timeout's completion is ETIME; anything else means that the loop stops.
        guard await perform(.timeout(timeout), keeping: [timeout], isPatient: true) != -ETIME else { return }
        guard !Task.isCancelled else {
            return await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
        }
        withUnsafeCurrentTask { $0?.cancel() }
    }

    /// Waits for the next of the signals that `source`, a `SignalDescriptor`, stands for.
    func nextSignal(from source: RingFile) async throws(KernelError) -> Int32 {
        let memory = AlignedBuffer(byteCount: SignalDescriptor.byteCount)
        let bytes = memory.pointer(to: 0..<SignalDescriptor.byteCount)
        try await attempt("read", "signals", keeping: [source, memory], isPatient: true) {
            .read(source.rawValue, bytes, offset: 0)
        }
        return memory.withUnsafeBytes(0..<SignalDescriptor.byteCount) { SignalDescriptor.number(in: $0) }
    }
}

extension Reactor {
    /// Performs an operation, again when the kernel asks for that.
    @discardableResult
    private func attempt(
        _ call: String, _ detail: String = "", keeping: [AnyObject], isPatient: Bool = false,
        _ operation: () -> RingOperation
    ) async throws(KernelError) -> Int32 {
        while true {
            let result = await perform(operation(), keeping: keeping, isPatient: isPatient)
            if result >= 0 { return result }
            // EAGAIN: the path changed while openat2 walked it.
            if result == -EINTR || (result == -EAGAIN && call == "openat2") { continue }
            precondition(result != -EBADF && result != -EFAULT, "\(call) \(detail): \(Kernel.describe(errno: -result))")
            throw KernelError(call: call, detail: detail, code: -result)
        }
    }
}

/// A path as the kernel reads it.
private final class PathBytes {
    let pointer: UnsafeMutablePointer<CChar>

    init(_ path: String) {
        pointer = strdup(path)
    }

    deinit {
        free(pointer)
    }
}

extension MemoryRegion {
    /// For an operation that keeps the region until its completion.
    fileprivate func pointer(to range: Range<Int>) -> UnsafeMutableRawBufferPointer {
        withUnsafeMutableBytes(range) { $0 }
    }
}
