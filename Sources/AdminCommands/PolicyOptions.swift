internal import ArgumentParser
internal import CacheModel

/// What LagKV keeps.
struct PolicyOptions: ParsableArguments {
    @Option(help: ArgumentHelp("S: first tokens, always kept.", valueName: "tokens"))
    var sink = 16

    @Option(help: ArgumentHelp("L: tokens of a chunk.", valueName: "tokens"))
    var lag = 128

    @Option(help: ArgumentHelp("r: the share of a sealed chunk that stays in memory.", valueName: "ratio"))
    var keepRatio = 0.25

    @Option(help: ArgumentHelp("α: the weight of the values' score.", valueName: "weight"))
    var valueWeight = 1.0

    @Option(parsing: .upToNextOption, help: ArgumentHelp("Layers that keep everything.", valueName: "layer"))
    var uncompressedLayers: [Int] = []

    func policy() throws(CacheError) -> Policy {
        try Policy(
            sink: sink, lag: lag, keepRatio: keepRatio, valueWeight: valueWeight, uncompressedLayers: uncompressedLayers.sorted())
    }

    func validate() throws {
        do { _ = try policy() } catch { throw ValidationError("\(error)") }
    }
}
