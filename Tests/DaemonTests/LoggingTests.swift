import Daemon
import FoundationEssentials
import Logging
import Testing

@Suite("logging")
struct LoggingTests {
    private func event(_ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata? = nil) -> LogEvent {
        LogEvent(level: level, message: message, metadata: metadata, source: nil, file: "", function: "", line: 0)
    }

    @Test("for the journal every line begins with its priority, so that no message can forge one")
    func journal() {
        let handler = LoggingHandler(.journal, LoggingLevel(.info))
        #expect(handler.text(of: event(.warning, "a\n<0>b\r\nc", ["n": "1"]), at: Date()) == "<4>a\n<4><0>b\n<4>c n=1\n")
        let priorities = Logger.Level.allCases.map { handler.text(of: event($0, ""), at: Date()) }
        #expect(priorities == ["<7>\n", "<7>\n", "<6>\n", "<5>\n", "<4>\n", "<3>\n", "<2>\n"])
    }

    @Test("for people a line begins with the time and the level")
    func plain() {
        let handler = LoggingHandler(.plain, LoggingLevel(.info))
        #expect(
            handler.text(of: event(.error, "no"), at: Date(timeIntervalSince1970: 1_700_000_000.25))
                == "2023-11-14T22:13:20.250Z error: no\n")
    }

    @Test("one level turns up all loggers but those that were set apart")
    func level() {
        let level = LoggingLevel(.info)
        let usual = Logger(label: "a") { _ in LoggingHandler(.plain, level) }
        var apart = usual
        apart.logLevel = .error
        level.current = .debug
        #expect(usual.logLevel == .debug && apart.logLevel == .error)
    }

    @Test("standard error is the journal only where systemd says it made this very stream")
    func style() {
        #expect(LoggingHandler.Style(environment: [:]) == .plain)
        #expect(LoggingHandler.Style(environment: ["JOURNAL_STREAM": "0:0"]) == .plain)
    }
}
