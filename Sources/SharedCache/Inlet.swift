internal import LinuxKit
internal import Synchronization

/// Shared memory of one connection in which tokens of a prompt arrive, whole chunks at a time. What its last user leaves, the
/// connection's next inlet finds: the bytes are the client's own.
final class Inlet: MemoryRegion, Sendable {
    let memory: SharedMemory
    /// Which of its connection's files it is.
    let number: UInt32
    private let owner: InletOwner
    private let pool: InletPool

    var baseAddress: UnsafeMutableRawPointer { memory.baseAddress }
    var byteCount: Int { memory.byteCount }

    fileprivate init(_ memory: SharedMemory, number: UInt32, owner: InletOwner, pool: InletPool) {
        self.memory = memory
        self.number = number
        self.owner = owner
        self.pool = pool
    }

    deinit { pool.keep(memory, number: number, owner: owner) }
}

/// Whose inlets they are: nobody else ever gets them. An object, so that no later connection can be taken for an earlier one.
final class InletOwner: Sendable {}

/// Inlets that nobody uses, with their memory, for the next prompt on their connection.
///
/// Invariant: the files held never exceed `byteLimit` bytes. Usable from any thread: the last to use an inlet may be a worker.
final class InletPool: Sendable {
    private struct Idle {
        let memory: SharedMemory
        let number: UInt32
        let owner: InletOwner
        let since: UInt64
    }

    private struct State {
        /// Those used last are at the end.
        var idle: [Idle] = []
        var trims: UInt64 = 0
        var lastNumber: UInt32 = 0
    }

    private let byteLimit: Int
    private let state = Mutex(State())

    init(byteLimit: Int) {
        self.byteLimit = byteLimit
    }

    /// An inlet of `byteCount` bytes for a connection: one it has used before, or a new one.
    func take(byteCount: Int, for owner: InletOwner) throws(KernelError) -> Inlet {
        let (found, number) = state.withLock { state -> (Idle?, UInt32) in
            let index = state.idle.lastIndex { $0.owner === owner && $0.memory.byteCount == byteCount }
            if let index {
                let idle = state.idle.remove(at: index)
                return (idle, idle.number)
            }
            state.lastNumber &+= 1
            return (nil, state.lastNumber)
        }
        let memory = if let found { found.memory } else { try SharedMemory.create(name: "lagkv-inlet", byteCount: byteCount) }
        return Inlet(memory, number: number, owner: owner, pool: self)
    }

    /// Called by the last holder of an inlet.
    fileprivate func keep(_ memory: SharedMemory, number: UInt32, owner: InletOwner) {
        let excess = state.withLock { state -> [Idle] in
            state.idle.append(Idle(memory: memory, number: number, owner: owner, since: state.trims))
            var held = state.idle.reduce(0) { $0 + $1.memory.byteCount }
            let count = state.idle.prefix { idle in
                defer { held -= idle.memory.byteCount }
                return held > byteLimit
            }.count
            defer { state.idle.removeFirst(count) }
            return Array(state.idle.prefix(count))
        }
        excess.forEach(Self.drop)
    }

    /// Gives back what the connection leaves behind.
    func removeAll(of owner: InletOwner) { drop { $0.owner === owner } }

    /// Gives memory back that nobody has wanted for `calls` calls of this.
    func trim(after calls: UInt64) {
        let now = state.withLock { state in
            state.trims += 1
            return state.trims
        }
        drop { $0.since + calls < now }
    }

    private func drop(where isUnwanted: (Idle) -> Bool) {
        let unwanted = state.withLock { state in
            defer { state.idle.removeAll(where: isUnwanted) }
            return state.idle.filter(isUnwanted)
        }
        unwanted.forEach(Self.drop)
    }

    /// The client may map the file for longer: its pages go now.
    private static func drop(_ idle: Idle) { try? idle.memory.discard(0..<idle.memory.byteCount) }
}
