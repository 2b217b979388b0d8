internal import ArgumentParser
internal import LagKVClient
internal import WireProtocol

struct SessionShowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show everything known of a session.")

    @OptionGroup var session: SessionArgument
    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        output.print(try connection.connect().show(session.name, owner: session.resolvedOwner))
    }
}

extension OutputOptions {
    /// One session.
    func print(_ row: SessionRow) {
        if json {
            JSONOutput.print(SessionReport(row))
        } else {
            Swift.print(SessionTable.show(row, now: WallClock.milliseconds), terminator: "")
        }
    }
}
