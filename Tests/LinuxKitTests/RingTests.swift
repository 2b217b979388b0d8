import Glibc
import LinuxKit
import Testing

@Suite("the ring")
struct RingTests {
    @Test("what goes in comes out with its number and the kernel's answer, in every mode", arguments: Ring.Mode.allCases)
    func completions(mode: Ring.Mode) throws {
        var ring = try Ring(entries: 4, bestMode: mode)
        // Never a better mode than asked for; an older kernel may give a lesser one.
        let given = ring.mode
        #expect(given.rawValue <= mode.rawValue)
        try ring.enable()
        let hasRoom = ring.hasRoom
        #expect(hasRoom)
        let null = try Descriptor.directory("/dev").open("null", .existing)
        let buffer = AlignedBuffer(byteCount: 4_096)
        let bytes = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: 4_096)
        ring.queue(.read(null.rawValue, bytes, offset: 0), userData: 11)
        let timeout = RingTimeout(milliseconds: 1)
        ring.queue(.timeout(timeout), userData: 12)
        var seen: [UInt64: Int32] = [:]
        var batch: [Ring.Completion] = []
        while seen.count < 2 {
            #expect(ring.submit(waitingFor: 1) == 0)
            ring.reap(into: &batch)
            for completion in batch { seen[completion.userData] = completion.result }
        }
        #expect(seen == [11: 0, 12: -ETIME])
        ring.close()
        let isUsable = ring.hasRoom || !ring.isClosed
        #expect(!isUsable)
    }

    @Test("a refused ring says what was seen, why, and what to do")
    func refusals() {
        let forbidden = RingUnavailable(code: EPERM, disabled: 2, lockedMemoryLimit: nil)
        #expect(
            forbidden.description
                == "io_uring is not available: io_uring_setup answered EPERM (Operation not permitted), "
                + "kernel.io_uring_disabled is 2; this machine forbids io_uring to everybody; "
                + "try: sysctl -w kernel.io_uring_disabled=0")
        #expect(RingUnavailable(code: EPERM, disabled: 1, lockedMemoryLimit: nil).cause.contains("group"))
        #expect(RingUnavailable(code: EPERM, disabled: 0, lockedMemoryLimit: nil).cause.contains("seccomp"))
        #expect(RingUnavailable(code: EPERM, disabled: nil, lockedMemoryLimit: nil).cause.contains("seccomp"))
        #expect(RingUnavailable(code: ENOSYS, disabled: nil, lockedMemoryLimit: nil).remedy.contains("6.1"))
        #expect(RingUnavailable(code: ENOMEM, disabled: nil, lockedMemoryLimit: 65_536).cause.contains("only 65536 bytes"))
        #expect(RingUnavailable(missingOperation: "LINKAT").seen == "the kernel has no IORING_OP_LINKAT")
    }

    @Test("the filesystem's traits are found out without leaving anything behind", arguments: ["/var/tmp", "/dev/shm", "/proc"])
    func traits(path: String) throws {
        let directory = try Descriptor.directory(path)
        guard let traits = try? FilesystemTraits.probe(directory) else {
            #expect(path == "/proc")
            return
        }
        #expect(traits.remarks.count == (traits.hasUnnamedFiles ? 0 : 1) + (traits.usesDirectIO ? 0 : 1))
        #expect(try directory.open(".", .directory).entries().allSatisfy { !$0.name.hasPrefix(".lagkvd-probe") })
    }
}
