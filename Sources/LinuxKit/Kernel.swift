/// What the kernel says, in words.
public enum Kernel {
    /// "ENOSPC (No space left on device)".
    public static func describe(errno code: Int32) -> String { "errno \(code)" }
}
