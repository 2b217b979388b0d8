internal import ArgumentParser
internal import CacheModel
internal import LagKVClient
internal import LinuxKit
internal import Safetensors

struct SessionExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write every token of a session to a safetensors file.",
        discussion: """
            Tensors layerN.k and layerN.v, [heads, tokens, dim] in the session's own dtype, bit for bit as they were appended, \
            and ids, [tokens]. `lagkvctl replay` reads such a file.
            """)

    @OptionGroup var session: SessionArgument

    @Option(name: [.short, .long], help: ArgumentHelp("Where to write.", valueName: "file"), completion: .file())
    var output: String

    @OptionGroup var connection: ConnectionOptions

    func run() throws {
        let client = try connection.connect()
        let session = try client.open(session.name, owner: session.resolvedOwner)
        let geometry = session.description.geometry
        let first = try session.full(layer: 0)
        do {
            try Self.write(first, of: session, to: output)
        } catch let error as KernelError {
            throw CommandFailure(.badFile, "\(output): \(error)")
        }
        print("\(output): \(Units.grouped(first.tokens)) tokens, \(Units.bytes(first.tokens * geometry.tokenBytes))")
    }

    /// Tokens that are appended meanwhile are left out: every layer is cut to what the first one had.
    private static func write(_ first: FullView, of session: Session, to path: String) throws {
        let geometry = session.description.geometry
        let tokens = first.tokens
        var progress = Progress()
        var writer = try SafetensorsWriter(path: path, Capture.header(session.description, tokens: tokens))
        for layer in 0..<geometry.layers {
            progress.update("exporting layer \(layer + 1) of \(geometry.layers)")
            let full = layer == 0 ? first : try session.full(layer: layer)
            guard full.tokens >= tokens else {
                throw CommandFailure(.refused, "the session was truncated while it was exported: try again")
            }
            for head in 0..<geometry.heads {
                try writer.append(full.keys(head: head).extracting(first: tokens * geometry.keyBytes))
            }
            for head in 0..<geometry.heads {
                try writer.append(full.values(head: head).extracting(first: tokens * geometry.valueBytes))
            }
        }
        try writer.append(first.ids.bytes)
        try writer.finish()
    }
}
