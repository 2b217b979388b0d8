internal import CLinux
internal import Glibc

extension Ring {
    /// Queues an operation; its completion carries `userData`. Traps without room.
    public mutating func queue(_ operation: RingOperation, userData: UInt64) {
        precondition(hasRoom, "an operation was queued on a full ring")
        switch operation {
        case .accept(let listener):
            clinux_ring_accept(ring, userData, listener)
        case .receive(let socket, let bytes):
            clinux_ring_receive(ring, userData, socket, bytes.baseAddress, bytes.count)
        case .send(let socket, let message):
            clinux_ring_send(ring, userData, socket, message.pointer)
        case .open(let directory, let path, let request):
            clinux_ring_open(ring, userData, directory, path, request.pointer)
        case .read(let file, let bytes, let offset):
            clinux_ring_read(ring, userData, file, bytes.baseAddress, transfer(bytes.count), UInt64(offset))
        case .write(let file, let bytes, let offset):
            clinux_ring_write(ring, userData, file, bytes.baseAddress, transfer(bytes.count), UInt64(offset))
        case .sync(let file):
            clinux_ring_sync(ring, userData, file)
        case .link(let directory, let path, let newPath):
            clinux_ring_link(ring, userData, directory, path, directory, newPath, 0)
        case .linkOpenFile(let source, let directory, let newPath):
            clinux_ring_link(ring, userData, AT_FDCWD, source, directory, newPath, 1)
        case .rename(let directory, let path, let newPath):
            clinux_ring_rename(ring, userData, directory, path, newPath)
        case .unlink(let directory, let path, let isDirectory):
            clinux_ring_unlink(ring, userData, directory, path, isDirectory ? 1 : 0)
        case .makeDirectory(let directory, let path):
            clinux_ring_make_directory(ring, userData, directory, path)
        case .timeout(let timeout):
            clinux_ring_timeout(ring, userData, timeout.pointer)
        case .cancel(let target):
            clinux_ring_cancel(ring, userData, target)
        }
    }

    private func transfer(_ byteCount: Int) -> UInt32 {
        precondition(byteCount <= RingOperation.transferLimit, "a transfer of \(byteCount) bytes")
        return UInt32(byteCount)
    }
}
