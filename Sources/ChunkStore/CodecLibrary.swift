internal import CZstd

/// The library that compresses planes.
public enum CodecLibrary {
    /// "zstd 1.5.4", of the one that is loaded.
    public static var version: String { "zstd \(String(cString: ZSTD_versionString()))" }
}
