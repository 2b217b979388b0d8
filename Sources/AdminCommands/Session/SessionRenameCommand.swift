internal import ArgumentParser
internal import CacheModel
internal import LagKVClient

struct SessionRenameCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rename", abstract: "Rename a session of yours.")

    @Argument(help: "The session's name.", completion: SessionNames.completion, transform: SessionNames.parse)
    var name: SessionName

    @Argument(help: "Its new name.", transform: SessionNames.parse)
    var newName: SessionName

    @OptionGroup var connection: ConnectionOptions

    func run() throws {
        try connection.connect().rename(name, to: newName)
    }
}
