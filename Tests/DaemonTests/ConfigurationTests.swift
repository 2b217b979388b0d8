import ArgumentParser
import Daemon
import FoundationEssentials
import Logging
import Testing

@Suite("configuration")
struct ConfigurationTests {
    /// A user without root on a machine with 16 GiB of memory, 4 cores and a disk of 100 GiB.
    private func machine(
        _ environment: [String: String] = ["HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/7"], user: UInt32 = 7,
        files: [String: String] = [:]
    ) -> Surroundings {
        Surroundings(
            environment: environment, userID: user, workingDirectory: "/work", memoryBytes: 16 << 30, cores: 4,
            diskBytes: { _ in 100 << 30 },
            text: { (path) throws(Surroundings.FileRefusal) in
                guard let text = files[path] else { throw .missing }
                return text
            })
    }

    private func problems(_ text: String) throws -> [String] {
        let here = machine(files: ["/c": text])
        let error = try #require(throws: ConfigurationError.self) { try Configuration.load([:], file: "/c", in: here) }
        return error.problems.map(\.description)
    }

    @Test("without anything it works for a user, and uses half of the memory and of the disk")
    func defaults() throws {
        let settings = try Configuration.load([:], file: nil, in: machine()).settings
        #expect(settings.socket == "/run/user/7/lagkvd.sock")
        #expect(settings.stateDirectory == "/home/ada/.local/state/lagkvd")
        #expect(settings.memoryBudget == 8 << 30 && settings.memoryBudgetPerUser == 8 << 30)
        #expect(settings.diskBudget == 50 << 30 && settings.diskBudgetPerUser == 50 << 30)
        #expect(settings.staging == 512 << 20 && settings.workers == 4 && settings.idleSuspend == .zero)
        #expect(settings.socketMode == 0o600 && settings.logLevel == .info)
    }

    @Test(
        "the default places follow systemd, then root, then XDG, then the home directory",
        arguments: [
            (["RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/a"], 0, "/run/a/lagkvd.sock", "/var/lib/a"),
            (["HOME": "/root", "XDG_RUNTIME_DIR": "/run/user/0"], 0, "/run/lagkvd/lagkvd.sock", "/var/lib/lagkvd"),
            (["HOME": "/h", "XDG_STATE_HOME": "/s"], 7, "/tmp/lagkvd-7/lagkvd.sock", "/s/lagkvd"),
            (["HOME": "/h", "XDG_STATE_HOME": "relative"], 7, "/tmp/lagkvd-7/lagkvd.sock", "/h/.local/state/lagkvd"),
        ] as [([String: String], UInt32, String, String)])
    func places(environment: [String: String], user: UInt32, socket: String, state: String) throws {
        let settings = try Configuration.load([:], file: nil, in: machine(environment, user: user)).settings
        #expect(settings.socket == socket)
        #expect(settings.stateDirectory == state)
    }

    @Test("a user without a home is told which key to set")
    func homeless() throws {
        let error = try #require(throws: ConfigurationError.self) { try Configuration.load([:], file: nil, in: machine([:])) }
        #expect(
            error.description
                == "default: state-directory; seen: neither $XDG_STATE_HOME nor $HOME; expected: one of them, or state-directory")
    }

    @Test("flags win over the environment, the environment over the file, the file over defaults")
    func precedence() throws {
        var environment = ["HOME": "/h", "LAGKVD_WORKERS": "2", "LAGKVD_STAGING": "2MiB", "LAGKVD_LOG_LEVEL": ""]
        environment["XDG_CONFIG_HOME"] = "/x"
        let here = machine(
            environment,
            files: [
                "/x/lagkvd/lagkvd.conf": "workers = 1\nstaging = 1MiB\nsocket-mode = 0666", "/etc/lagkvd/lagkvd.conf": "nonsense",
            ])
        let configuration = try Configuration.load(["workers": "3"], file: nil, in: here)
        #expect(configuration.file == "/x/lagkvd/lagkvd.conf")
        #expect(configuration.settings.workers == 3)
        #expect(configuration.settings.staging == 2 << 20)
        #expect(configuration.settings.socketMode == 0o666)
        #expect(configuration.settings.logLevel == .info)
        let shown = configuration.description
        for origin in ["# --workers", "# $LAGKVD_STAGING", "# /x/lagkvd/lagkvd.conf:3", "# default"] {
            #expect(shown.contains(origin))
        }
    }

    @Test("the file of /etc is read where the user has none, and a named file must exist")
    func files() throws {
        let here = machine(files: ["/etc/lagkvd/lagkvd.conf": "workers=9"])
        #expect(try Configuration.load([:], file: nil, in: here).settings.workers == 9)
        let error = try #require(throws: ConfigurationError.self) { try Configuration.load([:], file: "/nowhere", in: here) }
        #expect(error.description.hasPrefix("/nowhere: the configuration file; seen: no such file; expected: "))
    }

    @Test(
        "sizes have units",
        arguments: [
            ("512MiB", 512 << 20), ("4GB", 4_000_000_000), ("1.5 GiB", 3 << 29), ("2G", 2 << 30), ("1TiB", 1 << 40),
            ("2097152", 2 << 20),
            ("10%", 1_638 << 20), ("100%", 16 << 30), ("0.001%", 1 << 20),
        ] as [(String, Int)])
    func sizes(text: String, bytes: Int) throws {
        #expect(try Configuration.load(["memory-budget": text], file: nil, in: machine()).settings.memoryBudget == bytes)
    }

    @Test(
        "what is not a size is refused",
        arguments: [
            "", "MiB", "-1GiB", "1e9", "0x10", "1..5GiB", "1.GiB", "101%", "12 parsecs", "1023KiB", "9999999TiB", "nan", "inf",
            "٣GiB",
        ])
    func badSizes(text: String) throws {
        let error = try #require(throws: ConfigurationError.self) {
            try Configuration.load(["memory-budget": text], file: nil, in: machine())
        }
        #expect(error.problems.count == 1)
        #expect(error.description.hasPrefix("--memory-budget: memory-budget; seen: “\(text)”; expected: a size such as 512MiB"))
    }

    @Test("shares of the per-user budgets are of the whole budget, wherever that was set")
    func shares() throws {
        let here = machine(["HOME": "/h", "LAGKVD_DISK_BUDGET": "10GiB"], files: ["/c": "disk-budget-per-user = 50%"])
        #expect(try Configuration.load([:], file: "/c", in: here).settings.diskBudgetPerUser == 5 << 30)
    }

    @Test(
        "durations have units",
        arguments: [
            ("0", Duration.zero), ("500ms", .milliseconds(500)), ("90s", .seconds(90)), ("10 min", .seconds(600)),
            ("1.5h", .seconds(5_400)),
        ] as [(String, Duration)])
    func durations(text: String, duration: Duration) throws {
        #expect(try Configuration.load(["idle-suspend": text], file: nil, in: machine()).settings.idleSuspend == duration)
    }

    @Test(
        "a bad value of any kind says what was seen and what was expected",
        arguments: [
            ("idle-suspend", "90"), ("idle-suspend", "1w"), ("workers", "0"), ("workers", "+3"), ("workers", "1025"),
            ("socket-mode", "0888"),
            ("socket-mode", "1777"), ("log-level", "loud"), ("staging", "10%"), ("state-directory", ""),
            ("socket", "/" + String(repeating: "s", count: 107)),
        ] as [(String, String)])
    func badValues(key: String, text: String) throws {
        let error = try #require(throws: ConfigurationError.self) {
            try Configuration.load([key: text], file: nil, in: machine())
        }
        #expect(error.description.hasPrefix("--\(key): \(key); seen: "))
        #expect(error.description.contains("; expected: "))
    }

    @Test("relative paths begin at the working directory")
    func relativePaths() throws {
        let settings = try Configuration.load(["socket": "s.sock", "state-directory": "/d"], file: nil, in: machine()).settings
        #expect(settings.socket == "/work/s.sock" && settings.stateDirectory == "/d")
    }

    @Test("comments, blanks and the line endings of Windows are no part of a value")
    func syntax() throws {
        let text = "# all of it\r\n\r\n  workers =  3   # three\r\n\tstate-directory=/a#b\r\nidle-suspend = 1h\t# an hour"
        let settings = try Configuration.load([:], file: "/c", in: machine(files: ["/c": text])).settings
        #expect(settings.workers == 3 && settings.stateDirectory == "/a#b" && settings.idleSuspend == .seconds(3_600))
    }

    @Test("every wrong line is reported with its number, and an unknown key with the nearest known one")
    func wrongLines() throws {
        #expect(
            try problems("memory-bugdet = 1GiB\nworkers = 1\nfoo\nworkers = 2\nstaging = much") == [
                "/c:1: unknown key; seen: “memory-bugdet”; expected: perhaps “memory-budget”",
                "/c:3: not a setting; seen: “foo”; expected: key = value",
                "/c:4: workers is set twice; seen: line 2 and line 4; expected: one of them",
                "/c:5: staging; seen: “much”; expected: a size such as 512MiB or 4GB, at least 1MiB",
            ])
    }

    @Test("a wrong line is reported even where a flag overrides it")
    func overriddenProblem() throws {
        let here = machine(files: ["/c": "workers = none"])
        #expect(throws: ConfigurationError.self) { try Configuration.load(["workers": "1"], file: "/c", in: here) }
    }

    @Test("a variable that is almost ours gives a warning with the one that was meant")
    func unknownVariable() throws {
        let here = machine(["HOME": "/h", "LAGKVD_WORKER": "1", "LAGKVD_BIN": "/b"])
        #expect(
            try Configuration.load([:], file: nil, in: here).warnings == [
                "$LAGKVD_WORKER configures nothing; perhaps $LAGKVD_WORKERS was meant"
            ])
    }

    @Test("what --check-config prints is a file that configures the same")
    func printedConfigurationIsAFile() throws {
        let flags = ["memory-budget": "1234567890", "idle-suspend": "1.5h", "socket-mode": "777", "disk-budget": "33%"]
        let first = try Configuration.load(flags, file: nil, in: machine())
        let second = try Configuration.load([:], file: "/c", in: machine(files: ["/c": first.description]))
        #expect(second.settings == first.settings)
    }

    @Test("a reload applies what can change and keeps and names what cannot")
    func reload() throws {
        let before = try Configuration.load(
            ["staging": "2MiB"], file: "/c", in: machine(files: ["/c": "workers = 1\nlog-level = info"]))
        let text = "workers = 2\nlog-level = debug\nmemory-budget = 4GiB\nstaging = 3MiB"
        let (after, change) = try before.reloaded(in: machine(files: ["/c": text]))
        // The share of memory-budget-per-user follows memory-budget; the flag still wins over the file.
        #expect(change.applied == ["memory-budget = 4GiB", "memory-budget-per-user = 4GiB", "log-level = debug"])
        #expect(change.needRestart == ["workers = 2"])
        #expect(after.settings.workers == 1 && after.settings.logLevel == .debug && after.settings.staging == 2 << 20)
        #expect(throws: ConfigurationError.self) { try after.reloaded(in: machine(files: ["/c": "workers"])) }
    }

    @Test("every key of the table has its flag")
    func flags() throws {
        let keys = Configuration.reference.split(separator: "\n").dropFirst(2).compactMap { row in
            row.split(separator: "`").dropFirst().first.map(String.init)
        }
        #expect(keys.count == 11)
        for key in keys { #expect(try ConfigurationFlags.parse(["--\(key)", "x"]).given == [key: "x"]) }
    }

    @Test("the README has the table of keys, and the table of exit statuses")
    func readme() throws {
        let readme = try String(
            contentsOf: URL(filePath: #filePath).appending(path: "../../../README.md").standardized, encoding: .utf8)
        #expect(
            readme.contains(Configuration.reference), "replace the table by what lagkvd --print-configuration-reference prints")
        for status in ExitStatus.allCases { #expect(readme.contains("| \(status.rawValue) | \(status.reason) |")) }
    }
}
