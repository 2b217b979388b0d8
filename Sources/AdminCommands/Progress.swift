internal import Glibc
internal import LinuxKit

/// One line on standard error that says how far a long command is: only on a terminal, only after a second, and gone when
/// the command is done.
struct Progress: ~Copyable {
    private let begin = ContinuousClock.now
    private var shown = ContinuousClock.now
    private var isVisible = false
    private let isTerminal = isatty(STDERR_FILENO) == 1

    init() {}

    deinit {
        if isVisible { StandardError.write("\r\u{1B}[K") }
    }

    mutating func update(_ text: @autoclosure () -> String) {
        let now = ContinuousClock.now
        guard isTerminal, now - begin > .seconds(1), !isVisible || now - shown > .milliseconds(100) else { return }
        shown = now
        isVisible = true
        StandardError.write("\r\u{1B}[K\(text())")
    }
}
