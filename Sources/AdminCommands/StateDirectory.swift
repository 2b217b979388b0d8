internal import FoundationEssentials
internal import LinuxKit

/// Where the daemon of this user keeps its sessions unless it was told otherwise.
enum StateDirectory {
    static var standard: String? {
        standard(ProcessInfo.processInfo.environment, user: Kernel.effectiveUser)
    }

    /// As the daemon's `state-directory` says.
    static func standard(_ environment: [String: String], user: UInt32) -> String? {
        func directory(_ name: String) -> String? { environment[name].flatMap { $0.hasPrefix("/") ? $0 : nil } }
        if user == 0 { return "/var/lib/lagkvd" }
        let home = directory("XDG_STATE_HOME") ?? directory("HOME").map { $0 + "/.local/state" }
        return home.map { $0 + "/lagkvd" }
    }
}
