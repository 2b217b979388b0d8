internal import ArgumentParser
internal import LagKVClient

struct SessionDeleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Delete a session, in memory and on disk.",
        discussion: "Forks of it keep what they share with it.", aliases: ["rm"])

    @OptionGroup var session: SessionArgument
    @OptionGroup var connection: ConnectionOptions

    func run() throws {
        try connection.connect().delete(session.name, owner: session.resolvedOwner)
    }
}
