internal import ArgumentParser
internal import CacheModel
internal import LagKVClient
internal import WireProtocol

/// Where the daemon is.
struct ConnectionOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The daemon's socket.", valueName: "path"), completion: .file())
    var socket: String?

    func connect() throws(ClientError) -> LagKVClient {
        try LagKVClient.connect(path: socket, as: "lagkvctl")
    }
}

/// For programs instead of people.
struct OutputOptions: ParsableArguments {
    @Flag(help: "Print JSON with stable keys instead of a table.")
    var json = false
}

/// Which session.
struct SessionArgument: ParsableArguments {
    @Argument(help: "The session's name.", completion: SessionNames.completion, transform: SessionNames.parse)
    var name: SessionName

    @Option(help: ArgumentHelp("Whose session it is, as a user id; yours if not given.", valueName: "uid"))
    var owner: UInt32?

    var resolvedOwner: Owner { owner.map { .user($0) } ?? .own }
}

enum SessionNames {
    @Sendable
    static func parse(_ text: String) throws -> SessionName { try SessionName(text) }

    /// Asks the daemon; completes nothing where none answers.
    static let completion = CompletionKind.custom { _, _, prefix in
        let sessions = try? LagKVClient.connect(as: "lagkvctl completion").sessions()
        return (sessions ?? []).map(\.name.text).filter { $0.hasPrefix(prefix) }
    }
}
