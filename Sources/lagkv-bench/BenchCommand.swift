internal import ArgumentParser
internal import FoundationEssentials
internal import LinuxKit

/// Measures lagkvd on this machine, each figure beside the limit that the machine itself sets, taken in the same run.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lagkv-bench",
        abstract: "Measures lagkvd beside the limits of this machine.",
        discussion: """
            Starts a private daemon, and uses real keys and values: a capture of a model's run, reshaped to Llama-3-8B's cache (32 \
            layers, 8 KV heads, 128 dims, bf16) and in its own shape. Ratios are what counts: machines differ, and a shared one \
            differs from itself. A floor is what must hold now, an aim what is worked for.
            """)

    @Option(help: "A capture with tensors layerN.k and layerN.v, [heads, tokens, dim], bf16.")
    var kv = SampleKV.defaultPath

    @Option(help: "Where the daemon keeps its state: on the disk that is to be measured.")
    var directory = ".cache/bench"

    @Option(help: "Tokens of the Llama-shaped session; each takes 128 KiB.")
    var tokens = 8_192

    @Option(parsing: .upToNextOption, help: "Measure only these.")
    var only: [FigureGroup] = FigureGroup.allCases

    @Option(help: "Write the figures as JSON as well.")
    var json: String?

    func run() throws {
        let sample = try SampleKV(path: kv)
        var report = Report()
        report.note("machine", Machine.description)
        report.note("real KV", "\(kv): \(sample.summary)")
        StandardError.write("measuring the machine's own limits…\n")
        let limits = try MachineLimits(directory: directory)
        try report.add(limits)
        if only.contains(.kernels) {
            StandardError.write("scoring and coding…\n")
            KernelFigures(sample: sample).measure(against: limits, into: &report)
        }
        StandardError.write("starting a private daemon…\n")
        let daemon = try PrivateDaemon(directory: directory)
        defer { daemon.stop() }
        try DaemonFigures(sample: sample, daemon: daemon, tokens: tokens).measure(only, against: limits, into: &report)
        print(report.table)
        if let json { try report.json.write(to: URL(filePath: json)) }
    }
}

/// What can be measured by itself.
enum FigureGroup: String, CaseIterable, ExpressibleByArgument {
    /// Scoring and coding, without a daemon.
    case kernels
    /// A prompt that is appended at once.
    case append
    /// A session of `--tokens` tokens: until all of it is on disk, and back.
    case large
    /// Commits and attaching.
    case messages
    case recall
}
