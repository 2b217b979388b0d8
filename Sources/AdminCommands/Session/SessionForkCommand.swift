internal import ArgumentParser
internal import CacheModel
internal import LagKVClient

struct SessionForkCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fork", abstract: "Make a new session that begins as this one; chunk files are shared.")

    @OptionGroup var session: SessionArgument

    @Argument(help: "The new session's name.", transform: SessionNames.parse)
    var newName: SessionName

    @Option(help: ArgumentHelp("Only the first so many tokens.", valueName: "count"))
    var tokens: Int?

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let tokens, tokens < 0 { throw ValidationError("--tokens is \(tokens), and must not be negative") }
    }

    func run() throws {
        let client = try connection.connect()
        output.print(try client.fork(session.name, owner: session.resolvedOwner, as: newName, tokens: tokens))
    }
}
