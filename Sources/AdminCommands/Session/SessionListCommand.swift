internal import ArgumentParser
internal import LagKVClient

struct SessionListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List sessions.", aliases: ["ls"])

    @Flag(name: [.short, .long], help: "Other users' sessions as well, as far as you may see them.")
    var all = false

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let rows = try connection.connect().sessions(everybody: all)
        if output.json {
            JSONOutput.print(rows.map(SessionReport.init))
        } else {
            print(SessionTable.list(rows, withOwner: all, now: WallClock.milliseconds), terminator: "")
        }
    }
}
