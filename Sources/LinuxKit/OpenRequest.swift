internal import CLinux
internal import Glibc

/// How to open a file below a directory.
public final class OpenRequest {
    public enum Kind: Sendable {
        case directory
        case existing
        /// A new file in the directory that the path names; it has no name itself.
        case unnamed
        /// A new file at the path; EEXIST if there is one.
        case new
    }

    let pointer = UnsafeMutablePointer<clinux_open_how>.allocate(capacity: 1)

    public init(_ kind: Kind, direct: Bool = false) {
        clinux_open_how_fill(pointer, kind.code, direct ? 1 : 0)
    }

    deinit {
        pointer.deallocate()
    }
}

extension OpenRequest.Kind {
    fileprivate var code: Int32 {
        switch self {
        case .directory: Int32(CLINUX_OPEN_DIRECTORY)
        case .existing: Int32(CLINUX_OPEN_TO_READ)
        case .unnamed: Int32(CLINUX_OPEN_UNNAMED)
        case .new: Int32(CLINUX_OPEN_NEW)
        }
    }
}

extension Descriptor {
    /// Opens `path` below this directory and waits for it: for start-up and for threads that may wait.
    public borrowing func open(_ path: String, _ kind: OpenRequest.Kind, direct: Bool = false) throws(KernelError) -> Descriptor {
        let directory = rawValue
        return Descriptor(
            owning: try Kernel.call("openat2", path) { clinux_open_below(directory, path, kind.code, direct ? 1 : 0) })
    }

    /// Opens the directory at `path`, wherever it is.
    public static func directory(_ path: String) throws(KernelError) -> Descriptor {
        try open(path, O_RDONLY | O_DIRECTORY)
    }
}
