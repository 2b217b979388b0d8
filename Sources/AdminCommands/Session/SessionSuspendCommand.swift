internal import ArgumentParser
internal import LagKVClient

struct SessionSuspendCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "suspend", abstract: "Write a session to disk and give its memory back.")

    @OptionGroup var session: SessionArgument
    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        output.print(try connection.connect().suspend(session.name, owner: session.resolvedOwner))
    }
}
