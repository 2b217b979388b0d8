internal import ArgumentParser
internal import LagKVClient
internal import WireProtocol

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how the daemon is: sessions, memory, disk, and what it waits for.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let client = try connection.connect()
        let entries = try client.status()
        if output.json {
            JSONOutput.print(Self.fields(entries, client.daemon))
        } else {
            print(Self.table(entries, client.daemon), terminator: "")
        }
    }

    /// Whole numbers as numbers, the rest as text.
    static func fields(_ entries: [StatusEntry], _ daemon: Welcome) -> JSONFields {
        var fields: [(String, any Encodable)] = [("daemon", daemon.daemon), ("process", daemon.processID)]
        for entry in entries { fields.append((entry.key, Int(entry.value).map { $0 as any Encodable } ?? entry.value)) }
        return JSONFields(fields: fields)
    }

    /// Sizes, whose keys end in `_bytes`, with units.
    static func table(_ entries: [StatusEntry], _ daemon: Welcome) -> String {
        var pairs = [("daemon", daemon.daemon), ("process", "\(daemon.processID)")]
        for entry in entries {
            let name = entry.key.split(separator: "_").joined(separator: " ")
            switch Int(entry.value) {
            case let count? where entry.key.hasSuffix("_bytes"):
                pairs.append((String(name.dropLast(" bytes".count)), Units.bytes(count)))
            case let count?: pairs.append((name, Units.grouped(count)))
            case nil: pairs.append((name, entry.value))
            }
        }
        return Table.pairs(pairs).render()
    }
}
