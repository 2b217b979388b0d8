internal import Glibc

extension Kernel {
    /// Who, beside root and this user, could put something else in the place of a file in `directory`: a clause for an
    /// error, or nil when nobody could. In a world-writable directory with the sticky bit (`/tmp`) nobody could.
    public static func stranger(inDirectory directory: String) throws(KernelError) -> String? {
        var status = stat()
        try call("stat", directory) { stat(directory, &status) }
        guard status.st_uid == 0 || status.st_uid == geteuid() else { return "\(directory) belongs to user \(status.st_uid)" }
        let isOpen = status.st_mode & S_IWOTH != 0 && status.st_mode & S_ISVTX == 0
        return isOpen ? "everybody may write to \(directory)" : nil
    }
}
