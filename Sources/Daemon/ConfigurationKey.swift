internal import ArgumentParser

/// One thing that can be configured. The table below is the only place that knows the keys: flags, environment variables,
/// `--help`, `--check-config`, reload and the README's table are derived from it.
struct ConfigurationKey: Sendable {
    /// As in the file. The flag is `--name`, the environment variable `LAGKVD_NAME`, in capitals and with underscores.
    let name: String
    /// What kind of value it takes: "path", "size", …
    let form: String
    let completion: CompletionKind
    let fallback: ConfigurationDefault
    /// Whether a reload applies it to the running daemon; otherwise it needs a restart.
    let isLive: Bool
    let summary: String

    /// Reads `text` into the settings. Keys are read in the order of the table: shares are of what stands above them.
    let read: @Sendable (_ text: String, Surroundings, inout DaemonSettings) throws(ConfigurationRefusal) -> Void
    /// The value as text that `read` would accept.
    let show: @Sendable (DaemonSettings) -> String
    let copy: @Sendable (_ source: DaemonSettings, inout DaemonSettings) -> Void

    init<Value>(
        _ name: String, _ path: any WritableKeyPath<DaemonSettings, Value> & Sendable, _ form: ConfigurationForm<Value>,
        default fallback: ConfigurationDefault, isLive: Bool = false, _ summary: String
    ) {
        self.name = name
        self.form = form.name
        self.completion = form.completion
        self.fallback = fallback
        self.isLive = isLive
        self.summary = summary
        self.read = { (text, surroundings, settings) throws(ConfigurationRefusal) in
            settings[keyPath: path] = try form.read(text, surroundings, settings)
        }
        self.show = { form.show($0[keyPath: path]) }
        self.copy = { $1[keyPath: path] = $0[keyPath: path] }
    }

    var environmentVariable: String {
        "LAGKVD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }

    static let all: [ConfigurationKey] = [
        .init(
            "socket", \.socket, .socketPath, default: .socket,
            "Where clients connect; under socket activation systemd's socket is used instead."),
        .init(
            "socket-mode", \.socketMode, .mode, default: .text("0600"),
            "Who may connect, as permission bits of the socket; what they may see is decided by their user id."),
        .init(
            "state-directory", \.stateDirectory, .path, default: .stateDirectory,
            "Where sessions live on disk; one daemon at a time."),
        .init(
            "memory-budget", \.memoryBudget,
            .size(percentOf: "the memory of the machine or its cgroup") { here, _ in here.memoryBytes },
            default: .share("50%", "of memory"), isLive: true,
            "Shared memory over all sessions; beyond it idle sessions are suspended."),
        .init(
            "memory-budget-per-user", \.memoryBudgetPerUser, .size(percentOf: "memory-budget") { $1.memoryBudget },
            default: .share("100%", "of memory-budget"), isLive: true,
            "Shared memory over the sessions of one user."),
        .init(
            "disk-budget", \.diskBudget,
            .size(percentOf: "the filesystem of state-directory") { $0.diskBytes($1.stateDirectory) },
            default: .share("50%", "of the filesystem"), isLive: true,
            "Disk over all sessions; beyond it disposable sessions are deleted, then new tokens refused."),
        .init(
            "disk-budget-per-user", \.diskBudgetPerUser, .size(percentOf: "disk-budget") { $1.diskBudget },
            default: .share("100%", "of disk-budget"), isLive: true,
            "Disk over the sessions of one user."),
        .init(
            "staging", \.staging, .size, default: .text("512MiB"), isLive: true,
            "Sealed chunks that may wait in memory for the disk, and as much again for prompts on their way in; beyond it writers wait."),
        .init(
            "workers", \.workers, .count(1...1_024), default: .cores,
            "Threads that score and code chunks."),
        .init(
            "idle-suspend", \.idleSuspend, .duration, default: .text("0"), isLive: true,
            "Suspend a session unused for this long; 0: only under memory pressure."),
        .init(
            "log-level", \.logLevel, .logLevel, default: .text("info"), isLive: true,
            "The least severe messages that are logged."),
    ]

    static func named(_ name: String) -> ConfigurationKey? { all.first { $0.name == name } }

    /// The key whose name is the fewest edits away from `name`: what was probably meant.
    static func nearest(to name: String) -> (key: ConfigurationKey, edits: Int) {
        let distances = all.map { (key: $0, edits: editDistance($0.name, name)) }
        return distances.dropFirst().reduce(distances[0]) { $1.edits < $0.edits ? $1 : $0 }
    }
}

/// What a key is when nobody has set it.
struct ConfigurationDefault: Sendable {
    /// For the README and `--help`.
    let summary: String
    let text: @Sendable (Surroundings) throws(ConfigurationRefusal) -> String

    static func text(_ text: String) -> Self { .init(summary: text) { _ in text } }

    static func share(_ text: String, _ of: String) -> Self { .init(summary: "\(text) \(of)") { _ in text } }

    static let cores = Self(summary: "one for each core") { "\($0.cores)" }
    static let socket = Self(
        summary: "$RUNTIME_DIRECTORY, else as root /run/lagkvd, else $XDG_RUNTIME_DIR, else /tmp/lagkvd-UID; there lagkvd.sock"
    ) { $0.defaultSocket }
    static let stateDirectory = Self(
        summary: "$STATE_DIRECTORY, else as root /var/lib/lagkvd, else $XDG_STATE_HOME/lagkvd, else ~/.local/state/lagkvd"
    ) { (surroundings) throws(ConfigurationRefusal) in
        guard let directory = surroundings.defaultStateDirectory else {
            throw ConfigurationRefusal(seen: "neither $XDG_STATE_HOME nor $HOME", expected: "one of them, or state-directory")
        }
        return directory
    }
}

/// How many insertions, removals and replacements of a character turn one into the other (Levenshtein).
private func editDistance(_ left: String, _ right: String) -> Int {
    let right = Array(right)
    var row = Array(0...right.count)
    for (i, character) in left.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for j in right.indices {
            let replaced = diagonal + (character == right[j] ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
        }
    }
    return row[right.count]
}
