/// The settings of a daemon and where each came from: flags over environment over file over defaults.
public struct Configuration: Sendable {
    public private(set) var settings: DaemonSettings
    /// The file that was read, if any.
    public let file: String?
    /// What is not wrong but probably not meant, for the log.
    public let warnings: [String]
    private let origins: [String: ConfigurationOrigin]
    private let flags: [String: String]
    private let fileFlag: String?

    /// Reads flags, environment and file.
    /// - Parameters:
    ///   - flags: what the command line gave, by key.
    ///   - fileFlag: the file that the command line named; it must exist.
    /// - Throws: every problem that was found, not only the first.
    public static func load(
        _ flags: [String: String], file fileFlag: String?, in surroundings: Surroundings
    ) throws(ConfigurationError) -> Self {
        let file = try findFile(fileFlag, surroundings)
        var problems = file?.problems ?? []
        var settings = DaemonSettings(socket: "", stateDirectory: "")
        var origins: [String: ConfigurationOrigin] = [:]
        for key in ConfigurationKey.all {
            // Even what a later place overrides is read, so that a wrong line does not wait for its day.
            var origin = ConfigurationOrigin.builtIn
            do throws(ConfigurationRefusal) {
                for (text, place) in try given(key, flags, surroundings, file) {
                    origin = place
                    try key.read(text, surroundings, &settings)
                }
            } catch {
                problems.append(.init(origin: origin, message: key.name, seen: error.seen, expected: error.expected))
            }
            origins[key.name] = origin
        }
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        return Self(
            settings: settings, file: file?.path, warnings: misspelledVariables(surroundings), origins: origins, flags: flags,
            fileFlag: fileFlag)
    }

    /// What was given for a key, the strongest last; the default where nothing was.
    private static func given(
        _ key: ConfigurationKey, _ flags: [String: String], _ surroundings: Surroundings, _ file: ConfigurationFile?
    ) throws(ConfigurationRefusal) -> [(text: String, origin: ConfigurationOrigin)] {
        var given: [(String, ConfigurationOrigin)] = []
        if let file, let line = file.lines[key.name] { given.append((line.value, .file(file.path, line: line.number))) }
        if let text = surroundings.environment[key.environmentVariable], !text.isEmpty {
            given.append((text, .environment(key.environmentVariable)))
        }
        if let text = flags[key.name] { given.append((text, .flag(key.name))) }
        return given.isEmpty ? [(try key.fallback.text(surroundings), .builtIn)] : given
    }

    /// The file that was asked for, which must exist, or the first of the usual places that does.
    private static func findFile(
        _ fileFlag: String?, _ surroundings: Surroundings
    ) throws(ConfigurationError) -> ConfigurationFile? {
        for path in fileFlag.map({ [$0] }) ?? surroundings.configurationFiles {
            do throws(Surroundings.FileRefusal) {
                return ConfigurationFile(try surroundings.text(path), path: path)
            } catch .missing where fileFlag == nil {
                continue
            } catch {
                throw ConfigurationError([
                    .init(
                        origin: .file(path, line: nil), message: "the configuration file", seen: error.description,
                        expected: "a readable text file of at most \(ConfigurationFile.largestSize) bytes")
                ])
            }
        }
        return nil
    }

    /// Variables that are almost ours. They are no error, for other programs may use the same prefix.
    private static func misspelledVariables(_ surroundings: Surroundings) -> [String] {
        let known = Set(ConfigurationKey.all.map(\.environmentVariable))
        return surroundings.environment.keys.filter { $0.hasPrefix("LAGKVD_") && !known.contains($0) }.sorted().compactMap {
            let name = $0.dropFirst("LAGKVD_".count).lowercased().map { $0 == "_" ? "-" : String($0) }.joined()
            let (key, edits) = ConfigurationKey.nearest(to: name)
            guard edits <= editsOfMisspelling else { return nil }
            return "$\($0) configures nothing; perhaps $\(key.environmentVariable) was meant"
        }
    }

    private static let editsOfMisspelling = 3
}

// MARK: - Reload

extension Configuration {
    /// What a reload changed, as lines for the log: "memory-budget = 4GiB".
    public struct Change: Sendable, Hashable {
        /// Applied to the running daemon.
        public var applied: [String] = []
        /// Seen, but in force only after a restart.
        public var needRestart: [String] = []
    }

    /// Reads the file again. The result keeps the running values of what cannot change at run time.
    public func reloaded(in surroundings: Surroundings) throws(ConfigurationError) -> (configuration: Self, change: Change) {
        var fresh = try Self.load(flags, file: fileFlag, in: surroundings)
        var change = Change()
        for key in ConfigurationKey.all where key.show(fresh.settings) != key.show(settings) {
            let line = "\(key.name) = \(key.show(fresh.settings))"
            if key.isLive {
                change.applied.append(line)
            } else {
                change.needRestart.append(line)
                key.copy(settings, &fresh.settings)
            }
        }
        return (fresh, change)
    }
}

// MARK: - For people

extension Configuration: CustomStringConvertible {
    /// A file that would configure the same, with where each value came from.
    public var description: String {
        let lines = ConfigurationKey.all.map { (text: "\($0.name) = \($0.show(settings))", origin: origins[$0.name] ?? .builtIn) }
        let width = lines.map(\.text.count).max() ?? 0
        return lines.map { $0.text + String(repeating: " ", count: width - $0.text.count) + "  # \($0.origin)" }
            .joined(separator: "\n")
    }

    /// The README's table of keys, in Markdown.
    public static var reference: String {
        let rows = ConfigurationKey.all.map { key in
            [
                "`\(key.name)`", key.form.replacing("|", with: "\\|"), key.fallback.summary, key.isLive ? "yes" : "restart",
                key.summary,
            ]
        }
        let header = [["key", "value", "default", "reload", ""], Array(repeating: "---", count: 5)]
        return (header + rows).map { "| " + $0.joined(separator: " | ") + " |" }.joined(separator: "\n")
    }
}
