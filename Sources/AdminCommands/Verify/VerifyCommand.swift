internal import ArgumentParser
internal import LinuxKit

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check every checksum of every file below a state directory.",
        discussion: """
            Works without the daemon and beside it; never writes. Checked are manifests, headers, every block of every object, \
            that each decodes, and that objects follow each other without a gap. Exit status 1 if anything is wrong.
            """)

    @Argument(
        help: ArgumentHelp("The state directory; the daemon's own default if not given.", valueName: "path"),
        completion: .directory)
    var path: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        guard let path = path ?? StateDirectory.standard else {
            throw ValidationError("neither $XDG_STATE_HOME nor $HOME is set: name the state directory")
        }
        let found: Verification
        do {
            found = try StateVerifier(path: path).run()
        } catch {
            throw CommandFailure(.badFile, "\(error)")
        }
        if output.json { JSONOutput.print(found) } else { print(found.text, terminator: "") }
        if !found.problems.isEmpty { throw CommandFailure(.checkFailed) }
    }
}
