public import ArgumentParser
internal import Glibc
internal import LinuxKit

/// `lagkvctl`, the administrator's tool.
public struct LagKVCtl: ParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "lagkvctl",
        abstract: "Looks after lagkvd and its sessions.",
        discussion: """
            The daemon is looked for at --socket, else at $LAGKVD_SOCKET, else at lagkvd.sock in \
            $XDG_RUNTIME_DIR (without it, /tmp/lagkvd-UID) and /run/lagkvd. Commands that read take --json, for programs; its keys are stable.

            Completion: lagkvctl --generate-completion-script bash (or zsh, fish), to be put where the shell looks for it.

            Exit status:
            \(CommandStatus.allCases.map { "  \($0.rawValue)\($0.rawValue < 10 ? " " : "")  \($0.reason)" }.joined(separator: "\n"))
            """,
        version: "0.1.0",
        subcommands: [
            StatusCommand.self, SessionCommand.self, VerifyCommand.self, DoctorCommand.self, MetricsCommand.self,
            ReplayCommand.self, DemoCommand.self,
        ])

    public init() {}

    /// Parses the process's arguments, runs the command, and ends the process with a `CommandStatus`.
    public static func runAndExit() -> Never {
        do {
            var command = try parseAsRoot()
            try command.run()
            Glibc.exit(CommandStatus.success.rawValue)
        } catch {
            guard let failure = CommandFailure(error) else { exit(withError: error) }
            if !failure.message.isEmpty { StandardError.write("lagkvctl: \(failure.message)\n") }
            Glibc.exit(failure.status.rawValue)
        }
    }
}
