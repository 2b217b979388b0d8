internal import CLinux
internal import Glibc

/// What the kernel says, in words; and the one place where errno is read.
public enum Kernel {
    /// "ENOSPC (No space left on device)".
    public static func describe(errno code: Int32) -> String {
        guard let name = clinux_errno_name(code), let text = clinux_errno_text(code) else { return "errno \(code)" }
        return "\(String(cString: name)) (\(String(cString: text)))"
    }

    /// Bytes of a page of memory: what can be given back to the system.
    public static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))

    /// Cores that this process may use now.
    public static var coreCount: Int { max(1, Int(clinux_core_count())) }

    /// Makes a call that answers -1 and errno when it fails, again if a signal cut it short.
    /// - Throws: what the kernel said. EBADF and EFAULT trap: a closed descriptor or a wild pointer is our own bug.
    @discardableResult
    package static func call<Result: FixedWidthInteger & SignedInteger>(
        _ name: String, _ detail: @autoclosure () -> String = "", _ body: () -> Result
    ) throws(KernelError) -> Result {
        while true {
            let result = body()
            if result != -1 { return result }
            let error = lastError(name, detail())
            if error.code == EINTR { continue }
            precondition(error.code != EBADF && error.code != EFAULT, "\(error)")
            throw error
        }
    }

    /// What errno says that the call just made has failed with.
    static func lastError(_ name: String, _ detail: @autoclosure () -> String = "") -> KernelError {
        let code = errno
        return KernelError(call: name, detail: detail(), code: code)
    }
}
