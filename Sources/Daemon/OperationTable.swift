internal import LinuxKit

/// The operations in flight, by the number that their completion carries.
///
/// User data, 64 bits:
///
///     63            32 31             0
///     ┌───────────────┬───────────────┐
///     │  generation   │     slot      │
///     └───────────────┴───────────────┘
///
/// A slot is used again, under the next generation, once its completion was seen: a cancellation that arrives late names
/// a generation that is gone, and hits nothing. Slot 0xFFFFFFFF is nobody's: completions that no one waits for.
struct OperationTable {
    private struct Slot {
        var generation: UInt32 = 0
        var continuation: UnsafeContinuation<Int32, Never>?
        var keeping: [AnyObject] = []
        var isPatient = false
    }

    private var slots: [Slot] = []
    private var free: [UInt32] = []

    static let nobody = UInt64(UInt32.max)

    /// Operations whose completion has not been seen.
    var count: Int { slots.count - free.count }

    /// - Parameters:
    ///   - keeping: what the kernel works on; it lives until the completion.
    ///   - isPatient: it waits for somebody else, a client or the clock, and may do so for ever.
    /// - Returns: the user data.
    mutating func add(
        _ continuation: UnsafeContinuation<Int32, Never>, keeping: [AnyObject], isPatient: Bool = false
    ) -> UInt64 {
        let index: UInt32
        if let recycled = free.popLast() {
            index = recycled
        } else {
            // Cannot reach the number that is nobody's: each slot is an open connection or a request, and memory ends first.
            index = UInt32(slots.count)
            slots.append(Slot())
        }
        slots[Int(index)].continuation = continuation
        slots[Int(index)].keeping = keeping
        slots[Int(index)].isPatient = isPatient
        return UInt64(slots[Int(index)].generation) << 32 | UInt64(index)
    }

    /// Ends the operation that `userData` names.
    /// - Returns: who waits for it; nil for a number that is nobody's, or no longer anybody's.
    mutating func remove(_ userData: UInt64) -> UnsafeContinuation<Int32, Never>? {
        let (index, generation) = (UInt32(truncatingIfNeeded: userData), UInt32(userData >> 32))
        guard index < slots.count, slots[Int(index)].generation == generation,
            let continuation = slots[Int(index)].continuation
        else { return nil }
        slots[Int(index)].continuation = nil
        slots[Int(index)].keeping = []
        slots[Int(index)].generation &+= 1
        free.append(index)
        return continuation
    }

    /// The user data of the operations that wait for somebody else.
    var patient: [UInt64] { numbers { $0.isPatient } }

    /// The user data of the operations that hold on to `object`.
    func holding(_ object: AnyObject) -> [UInt64] {
        numbers { $0.keeping.contains { $0 === object } }
    }

    private func numbers(where isWanted: (Slot) -> Bool) -> [UInt64] {
        slots.enumerated().compactMap { index, slot in
            guard slot.continuation != nil, isWanted(slot) else { return nil }
            return UInt64(slot.generation) << 32 | UInt64(index)
        }
    }
}
