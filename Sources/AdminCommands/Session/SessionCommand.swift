internal import ArgumentParser

struct SessionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "session", abstract: "List, show and change sessions.",
        subcommands: [
            SessionListCommand.self, SessionShowCommand.self, SessionSuspendCommand.self, SessionResumeCommand.self,
            SessionForkCommand.self, SessionRenameCommand.self, SessionExportCommand.self, SessionDeleteCommand.self,
        ],
        defaultSubcommand: SessionListCommand.self)
}
