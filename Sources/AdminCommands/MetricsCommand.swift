internal import ArgumentParser
internal import LagKVClient

struct MetricsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics", abstract: "Print the daemon's metrics as OpenMetrics text.",
        discussion: "For node_exporter's textfile collector: lagkvctl metrics > lagkvd.prom.new && mv lagkvd.prom.new lagkvd.prom"
    )

    @OptionGroup var connection: ConnectionOptions

    func run() throws {
        print(try connection.connect().metrics(), terminator: "")
    }
}
