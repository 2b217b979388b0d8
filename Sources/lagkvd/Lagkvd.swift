internal import ArgumentParser
internal import Daemon
internal import FoundationEssentials
internal import LinuxKit
internal import Logging

@main
struct Lagkvd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lagkvd",
        abstract: "Keeps the KV caches of LLM sessions in shared memory and on disk.",
        discussion: """
            Every option below can also stand in the configuration file, as "memory-budget = 8GiB", or in the environment, as \
            LAGKVD_MEMORY_BUDGET=8GiB. Flags win over the environment, the environment over the file.

            SIGHUP reads the file again; SIGTERM and SIGINT make every session durable and stop.

            Exit status:
            \(ExitStatus.allCases.map { "  \($0.rawValue)\($0.rawValue < 10 ? " " : "")  \($0.reason)" }.joined(separator: "\n"))
            """,
        version: DaemonVersion.text)

    @OptionGroup var flags: ConfigurationFlags

    @Flag(help: "Print the configuration as it would be used, and where each value comes from; start nothing.")
    var checkConfig = false

    @Flag(help: .hidden)
    var printConfigurationReference = false

    func run() throws {
        if printConfigurationReference { return print(Configuration.reference) }
        let configuration: Configuration
        do throws(ConfigurationError) {
            configuration = try Configuration.load(flags.given, file: flags.config, in: .current())
        } catch {
            StandardError.write("lagkvd: the configuration has errors\n\(error)\n")
            throw ExitCode(ExitStatus.configuration.rawValue)
        }
        guard checkConfig else { return try start(configuration) }
        for warning in configuration.warnings { StandardError.write("warning: \(warning)\n") }
        print(configuration)
    }

    private func start(_ configuration: Configuration) throws {
        let level = LoggingLevel(configuration.settings.logLevel)
        let style = LoggingHandler.Style(environment: ProcessInfo.processInfo.environment)
        let log = Logger(label: "lagkvd") { _ in LoggingHandler(style, level) }
        do throws(DaemonFailure) {
            let supervisor = try Supervisor(environment: ProcessInfo.processInfo.environment, processID: Kernel.processID)
            try Daemon.run(configuration, supervisor: supervisor, log: log, level: level)
        } catch {
            log.critical("\(error)")
            throw ExitCode(error.status.rawValue)
        }
    }
}
