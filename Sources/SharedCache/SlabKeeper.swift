public import CacheLoop
public import ChunkStore
public import LinuxKit

/// Who holds the shared files of resident sessions, so that they outlive the daemon: the service manager. A daemon that dies then loses
/// what it had in its own memory, and no window.
@CacheLoop
public protocol SlabKeeper: AnyObject {
    /// Holds the slab file and the control file of session `id` from now on.
    func keep(_ slab: SharedMemory, _ control: SharedMemory, of id: ObjectID)
    /// The session has left memory: nothing of it needs to be held.
    func letGo(of id: ObjectID)
}
