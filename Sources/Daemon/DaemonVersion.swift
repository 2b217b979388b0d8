/// The version of the daemon, for `--version` and `hello`.
public enum DaemonVersion {
    public static let text = "0.1.0"
}
