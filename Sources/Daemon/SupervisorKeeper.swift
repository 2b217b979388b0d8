internal import CacheLoop
internal import ChunkStore
internal import LinuxKit
internal import Logging
internal import SharedCache

/// The service manager's file descriptor store (systemd's `FileDescriptorStoreMax=`), as the keeper of resident sessions' files. They are
/// named after the session's id.
@CacheLoop
final class SupervisorKeeper: SlabKeeper {
    private let supervisor: Supervisor
    private let log: Logger

    /// Nil where there is no manager.
    init?(_ supervisor: Supervisor, _ log: Logger) {
        guard supervisor.isThere else { return nil }
        self.supervisor = supervisor
        self.log = log
    }

    func keep(_ slab: SharedMemory, _ control: SharedMemory, of id: ObjectID) {
        tell(.keep(name: "\(id)")) { () throws(KernelError) in
            var descriptors = PassedDescriptors()
            descriptors.append(try slab.duplicateDescriptor())
            descriptors.append(try control.duplicateDescriptor())
            return descriptors
        }
    }

    func letGo(of id: ObjectID) {
        tell(.letGo(name: "\(id)")) { PassedDescriptors() }
    }

    private func tell(_ message: SupervisorMessage, with descriptors: () throws(KernelError) -> PassedDescriptors) {
        do throws(KernelError) {
            try supervisor.tell([message], with: try descriptors())
        } catch {
            log.warning("the service manager does not hold sessions' memory, which a crash would lose: \(error)")
        }
    }

    /// What an earlier life of the daemon left there. What cannot be read is named in the log, and let go.
    func takeKept() -> [KeptSlabs] {
        supervisor.kept.sorted { $0.key < $1.key }.compactMap { name, numbers in
            do throws(KernelError) {
                if let slabs = try Self.slabs(name, numbers) { return slabs }
                log.warning("the service manager held \(numbers.count) descriptors as “\(name)”, which are no session's two files")
            } catch {
                log.warning("the service manager held “\(name)”: \(error)")
            }
            tell(.letGo(name: name)) { PassedDescriptors() }
            return nil
        }
    }

    private static func slabs(_ name: String, _ numbers: [Int32]) throws(KernelError) -> KeptSlabs? {
        var slab: MappedFile?
        var control: MappedFile?
        for number in numbers {
            // The mapping stays when the descriptor is closed.
            let descriptor = Descriptor(owning: number)
            // They come in any order; what nobody but the daemon could write is the control file.
            if try SharedMemory.isSealedAgainstNewWriters(descriptor) {
                control = try MappedFile(descriptor, writable: false)
            } else {
                slab = try MappedFile(descriptor, writable: false)
            }
        }
        guard numbers.count == 2, let id = ObjectID(name), let slab, let control else { return nil }
        return KeptSlabs(id: id, slab: slab, control: control)
    }
}
