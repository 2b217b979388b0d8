internal import ArgumentParser

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Look at what lagkvd needs of this machine, and say what to do where it is missing.",
        discussion: """
            Run it as the daemon's user. "weak" works with less speed or safety, or is not running yet; "BAD" keeps lagkvd from \
            working. Exit status 1 if anything is bad.
            """)

    @Option(
        help: ArgumentHelp("The state directory; the daemon's own default if not given.", valueName: "path"),
        completion: .directory)
    var stateDirectory: String?

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let findings = Examination.all(socket: connection.socket, stateDirectory: stateDirectory ?? StateDirectory.standard)
        if output.json { JSONOutput.print(findings) } else { print(Finding.text(findings), terminator: "") }
        if findings.contains(where: { $0.verdict == .bad }) { throw CommandFailure(.checkFailed) }
    }
}
