import Glibc

/// What a trap prints before the process ends: a precondition that fails in the middle of a run must name its seed as well.
enum LastWords {
    private static let capacity = 512
    // Safe: written by the one thread that runs a simulation; read by it when it traps.
    private nonisolated(unsafe) static let text = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
    private nonisolated(unsafe) static var count = 0
    private nonisolated(unsafe) static var before = sigaction()

    static func set(_ words: String) {
        if count == 0 { listen() }
        count = 0
        for byte in words.utf8.prefix(capacity) {
            text[count] = byte
            count += 1
        }
    }

    /// Speaks on the signal that a trap raises, and leaves the rest to whoever listened before.
    private static func listen() {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { signal in
            _ = write(STDERR_FILENO, LastWords.text, LastWords.count)
            sigaction(signal, &LastWords.before, nil)
        }
        #if arch(x86_64)
            sigaction(SIGILL, &action, &before)
        #else
            sigaction(SIGTRAP, &action, &before)
        #endif
    }
}
