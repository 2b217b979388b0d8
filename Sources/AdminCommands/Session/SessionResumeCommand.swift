internal import ArgumentParser
internal import LagKVClient

struct SessionResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Bring a suspended session's hot view back to memory.")

    @OptionGroup var session: SessionArgument
    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        output.print(try connection.connect().resume(session.name, owner: session.resolvedOwner))
    }
}
