public import ArgumentParser

/// The flags of `lagkvd` that configure: one for each key of the table, and where the file is.
public struct ConfigurationFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The configuration file. (default: $XDG_CONFIG_HOME/lagkvd/lagkvd.conf or /etc/lagkvd/lagkvd.conf, if there is one)",
            valueName: "path"), completion: .file(extensions: ["conf"]))
    public var config: String?

    @Option("socket") public var socket: String?
    @Option("socket-mode") public var socketMode: String?
    @Option("state-directory") public var stateDirectory: String?
    @Option("memory-budget") public var memoryBudget: String?
    @Option("memory-budget-per-user") public var memoryBudgetPerUser: String?
    @Option("disk-budget") public var diskBudget: String?
    @Option("disk-budget-per-user") public var diskBudgetPerUser: String?
    @Option("staging") public var staging: String?
    @Option("workers") public var workers: String?
    @Option("idle-suspend") public var idleSuspend: String?
    @Option("log-level") public var logLevel: String?

    public init() {}

    /// What was given, by key.
    public var given: [String: String] {
        [
            "socket": socket, "socket-mode": socketMode, "state-directory": stateDirectory,
            "memory-budget": memoryBudget, "memory-budget-per-user": memoryBudgetPerUser,
            "disk-budget": diskBudget, "disk-budget-per-user": diskBudgetPerUser,
            "staging": staging, "workers": workers, "idle-suspend": idleSuspend, "log-level": logLevel,
        ].compactMapValues(\.self)
    }
}

extension Option<String?> {
    /// The flag of a key of the table, whose help and completion it takes.
    fileprivate init(_ name: String) {
        guard let key = ConfigurationKey.named(name) else { preconditionFailure("no key of the table is called \(name)") }
        self.init(
            name: .customLong(key.name),
            help: ArgumentHelp("\(key.summary) (default: \(key.fallback.summary))", valueName: key.form),
            completion: key.completion)
    }
}
