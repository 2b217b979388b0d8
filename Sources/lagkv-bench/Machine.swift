internal import FoundationEssentials
internal import LagKV
internal import LinuxKit

/// What the figures were taken on.
enum Machine {
    static var description: String {
        let processor = lines("/proc/cpuinfo").first { $0.hasPrefix("model name") }?.split(separator: ":").last ?? "unknown processor"
        let kernel = lines("/proc/sys/kernel/osrelease").first ?? ""
        let load = lines("/proc/loadavg").first?.split(separator: " ").first ?? ""
        return "\(processor.drop { $0 == " " }), \(Kernel.coreCount) cores, Linux \(kernel), kernels \(Kernels.best.name), load \(load)"
    }

    private static func lines(_ path: String) -> [Substring] {
        ((try? String(contentsOf: URL(filePath: path), encoding: .utf8)) ?? "").split(separator: "\n")
    }
}
