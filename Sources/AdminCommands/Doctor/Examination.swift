internal import CacheModel
internal import ChunkStore
internal import LagKV
internal import LagKVClient
internal import LinuxKit
internal import WireProtocol

/// The questions, each answered by trying it. Nothing is changed; probes leave nothing behind.
enum Examination {
    static func all(socket: String?, stateDirectory: String?) -> [Finding] {
        [kernel, ring, lockedMemory, seals, scoring, compression] + filesystem(stateDirectory) + [daemon(socket)]
    }

    // MARK: The kernel

    static var kernel: Finding { kernel(release: Kernel.release) }

    /// - Parameter release: as `uname -r` says it: "6.1.0-28-amd64".
    static func kernel(release: String) -> Finding {
        let threshold = "Linux 6.1 or later"
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        guard numbers.count == 2, (numbers[0], numbers[1]) < (6, 1) else {
            return .good("kernel", seen: "Linux \(release)", threshold: threshold)
        }
        return Finding(
            name: "kernel", verdict: .weak, seen: "Linux \(release)", threshold: threshold,
            cause: "an older distribution", remedy: "upgrade the kernel; lagkvd is tested from 6.1 on")
    }

    static var ring: Finding {
        let threshold = "io_uring with the operations that lagkvd uses"
        do throws(RingUnavailable) {
            let ring = try Ring()
            return .good("io_uring", seen: "available, \(ring.mode)", threshold: threshold)
        } catch {
            return Finding(
                name: "io_uring", verdict: .bad, seen: error.seen, threshold: threshold, cause: error.cause, remedy: error.remedy)
        }
    }

    /// Since Linux 5.12 a ring's memory is charged to the cgroup and not to this limit; what was probed above counts.
    static var lockedMemory: Finding {
        let threshold = "8 MiB or more, for kernels that count a ring's memory as locked"
        guard let limit = RingUnavailable.lockedMemoryLimit else {
            return .good("memlock", seen: "no limit", threshold: threshold)
        }
        let seen = Units.bytes(Int(clamping: limit))
        guard limit < 8 << 20 else { return .good("memlock", seen: seen, threshold: threshold) }
        return Finding(
            name: "memlock", verdict: .weak, seen: seen, threshold: threshold, cause: "the distribution's default limit",
            remedy: "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited")
    }

    static var seals: Finding {
        let threshold = "sealed memfds that are read-only for others"
        do throws(KernelError) {
            let memory = try SharedMemory.create(
                name: "lagkvctl-doctor", byteCount: Kernel.pageSize, sealedAgainstNewWriters: true)
            _ = try MappedFile(memory.readOnlyDescriptor(), writable: false)
            return .good("shared memory", seen: "memfd with seals", threshold: threshold)
        } catch {
            return Finding(
                name: "shared memory", verdict: .bad, seen: "\(error)", threshold: threshold,
                cause: "a sandbox that forbids memfd_create or seals", remedy: "allow memfd_create and fcntl(F_ADD_SEALS)")
        }
    }

    // MARK: What it was built with

    static var scoring: Finding {
        let threshold = "avx512, avx2 or neon"
        let best = Kernels.best.name
        guard best == "baseline" else { return .good("scoring kernels", seen: best, threshold: threshold) }
        return Finding(
            name: "scoring kernels", verdict: .weak, seen: best, threshold: threshold,
            cause: "a processor or an emulator without wide vectors", remedy: "results are the same; sealing is slower")
    }

    static var compression: Finding {
        .good("compression", seen: CodecLibrary.version, threshold: "zstd 1.4 or later")
    }

    // MARK: The disk

    static func filesystem(_ directory: String?) -> [Finding] {
        let name = "state directory"
        let threshold = "a directory that can be written"
        guard let directory else {
            return [
                Finding(
                    name: name, verdict: .bad, seen: "neither $XDG_STATE_HOME nor $HOME is set", threshold: threshold,
                    cause: "a bare environment",
                    remedy: "name the directory: lagkvctl doctor --state-directory PATH, and lagkvd's state-directory")
            ]
        }
        do throws(KernelError) {
            let place = try nearest(directory)
            let traits = try FilesystemTraits.probe(Descriptor.directory(place))
            let seen = place == directory ? directory : "\(directory), to be made below \(place)"
            return [
                .good(name, seen: seen, threshold: threshold),
                trait(
                    "direct I/O", traits.usesDirectIO, "files can be read and written past the page cache",
                    remedy: "works all the same; put the state directory on ext4 or XFS for speed", traits.remarks, "direct I/O"),
                trait(
                    "unnamed files", traits.hasUnnamedFiles, "O_TMPFILE",
                    remedy: "works all the same; put the state directory on ext4, XFS, btrfs or tmpfs", traits.remarks,
                    "unnamed files"),
            ]
        } catch {
            return [
                Finding(
                    name: name, verdict: .bad, seen: "\(error)", threshold: threshold,
                    cause: "wrong owner, read-only or full filesystem",
                    remedy: error.remedy ?? "make it yours, or run as the daemon's user")
            ]
        }
    }

    private static func trait(
        _ name: String, _ isThere: Bool, _ threshold: String, remedy: String, _ remarks: [String], _ word: String
    ) -> Finding {
        if isThere { return .good(name, seen: "works", threshold: threshold) }
        return Finding(
            name: name, verdict: .weak, seen: "refused", threshold: threshold, cause: remarks.first { $0.contains(word) } ?? "",
            remedy: remedy)
    }

    /// The directory, or the nearest one above it that exists.
    private static func nearest(_ path: String) throws(KernelError) -> String {
        var place = path
        while true {
            do {
                _ = try Descriptor.directory(place)
                return place
            } catch  where error.isNotFound && place.contains("/") && place != "/" {
                let above = place[..<(place.lastIndex(of: "/") ?? place.startIndex)]
                place = above.isEmpty ? "/" : String(above)
            }
        }
    }

    // MARK: The daemon

    static func daemon(_ socket: String?) -> Finding {
        let threshold = "a daemon that answers"
        do throws(ClientError) {
            let client = try LagKVClient.connect(path: socket, as: "lagkvctl doctor")
            return .good("daemon", seen: "\(client.daemon.daemon), process \(client.daemon.processID)", threshold: threshold)
        } catch {
            return Finding(
                name: "daemon", verdict: .weak, seen: "\(error)", threshold: threshold,
                cause: "it is not running, or listens elsewhere, or its socket's mode keeps you out",
                remedy: "start lagkvd (systemctl start lagkvd.socket), or name its socket with --socket or LAGKVD_SOCKET")
        }
    }
}
