internal import Glibc

/// A program that this one started; killed when it goes.
public final class ChildProcess {
    public let processID: Int32
    private var status: Int32?

    /// Starts `path` with this process's environment; what it says goes to the file at `output`.
    public init(_ path: String, _ arguments: [String], output: String) throws(KernelError) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        var pointers = ([path] + arguments).map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var processID = pid_t()
        let code = posix_spawn(&processID, path, &actions, nil, &pointers, environ)
        guard code == 0 else { throw KernelError(call: "posix_spawn", detail: path, code: code) }
        self.processID = processID
    }

    deinit {
        guard status == nil else { return }
        Glibc.kill(processID, SIGKILL)
        _ = waitpid(processID, nil, 0)
    }

    /// Whether it has not ended yet.
    public func isRunning() -> Bool {
        guard status == nil else { return false }
        var status: Int32 = 0
        guard waitpid(processID, &status, WNOHANG) == processID else { return true }
        self.status = status
        return false
    }

    /// Ends it at once, as a crash would.
    public func kill() {
        guard isRunning() else { return }
        Glibc.kill(processID, SIGKILL)
        wait()
    }

    /// Asks it to stop, and waits until it has.
    public func stop() {
        guard isRunning() else { return }
        Glibc.kill(processID, SIGTERM)
        wait()
    }

    private func wait() {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) == -1, errno == EINTR {}
        self.status = status
    }
}
