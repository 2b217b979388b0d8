internal import Glibc
internal import LinuxKit

/// The directory that everything durable lies in, made if it is not there, and held by a lock: one daemon at a time.
struct StateDirectory: Sendable {
    let path: String
    let root: RingFile
    let traits: FilesystemTraits
    /// Held as long as this is.
    private let lock: RingFile

    init(path: String) throws(DaemonFailure) {
        self.path = path
        let remedy = "make \(path) a directory that this user may write, or choose another state-directory="
        (root, traits) = try DaemonParts.attempt(.stateNotWritable, remedy) { () throws(KernelError) in
            try Kernel.makeDirectories(for: path + "/lock", mode: 0o700)
            let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
            let traits = try FilesystemTraits.probe(root)
            return (RingFile(root), traits)
        }
        do throws(KernelError) {
            lock = RingFile(try Descriptor.lock(path + "/lock"))
        } catch where error.code == EWOULDBLOCK {
            throw DaemonFailure(.stateLocked, "\(path)/lock is held by another process", remedy: "stop the other daemon, or choose another state-directory=")
        } catch {
            throw DaemonFailure(.stateNotWritable, "\(error)", remedy: remedy)
        }
    }
}
