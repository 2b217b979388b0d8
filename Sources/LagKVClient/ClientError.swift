public import CacheModel
public import LinuxKit

/// Why a call of the client failed.
public enum ClientError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Nobody answers at any of these places.
    case unreachable([Attempt])
    /// The connection broke: the daemon is gone, or closed it. Connect and open again.
    case connectionLost(String)
    /// The daemon refused the request, or the client did so with the code that the daemon would have used.
    case refused(CacheError)
    /// The daemon answered what the protocol does not allow.
    case badReply(CacheError)
    /// The kernel refused a mapping.
    case kernel(KernelError)

    /// One place that was tried.
    public struct Attempt: Sendable, Hashable {
        public var path: String
        public var error: KernelError

        public init(path: String, error: KernelError) {
            self.path = path
            self.error = error
        }
    }

    public var description: String {
        switch self {
        case .unreachable(let attempts):
            "no lagkvd answers: " + attempts.map { "\($0.error)" }.joined(separator: "; ")
        case .connectionLost(let why): "the connection to lagkvd is lost: \(why)"
        case .refused(let error): "\(error)"
        case .badReply(let error): "lagkvd answered out of protocol: \(error)"
        case .kernel(let error): "\(error)"
        }
    }

    /// The code of a refusal.
    public var code: ErrorCode? {
        guard case .refused(let error) = self else { return nil }
        return error.code
    }
}
