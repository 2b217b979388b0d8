internal import CacheModel
internal import LagKVClient
internal import Safetensors

/// What lagkvctl ends with, one number for each thing that a script may want to tell apart.
enum CommandStatus: Int32, CaseIterable {
    case success = 0
    /// A check found something: `verify`, `doctor`, or a comparison of `replay` and `demo`.
    case checkFailed = 1
    /// No daemon answers at the socket.
    case unreachable = 3
    /// The daemon refused the request; standard error gives its code and what it expected.
    case refused = 4
    /// The connection broke, or the daemon answered out of protocol.
    case connectionLost = 5
    /// A file could not be read or written, or is not what it should be.
    case badFile = 6
    /// Arguments that make no sense (EX_USAGE; ArgumentParser's own).
    case usage = 64

    var reason: String {
        switch self {
        case .success: "done"
        case .checkFailed: "a check found something wrong"
        case .unreachable: "no daemon answers"
        case .refused: "the daemon refused the request"
        case .connectionLost: "the connection broke, or the kernel refused a mapping"
        case .badFile: "a file could not be read or written, or is not what it should be"
        case .usage: "arguments that make no sense"
        }
    }
}

/// Why a command ends without having done its work.
struct CommandFailure: Error, CustomStringConvertible {
    var status: CommandStatus
    /// For standard error; empty where everything has been said.
    var message: String

    init(_ status: CommandStatus, _ message: String = "") {
        self.status = status
        self.message = message
    }

    init(_ error: ClientError) {
        switch error {
        case .unreachable:
            self.init(.unreachable, "\(error)\nto do: start lagkvd, or name its socket with --socket or LAGKVD_SOCKET")
        case .refused: self.init(.refused, "\(error)")
        case .connectionLost, .badReply, .kernel: self.init(.connectionLost, "\(error)")
        }
    }

    /// Whatever a command threw.
    init?(_ error: any Error) {
        switch error {
        case let failure as CommandFailure: self = failure
        case let error as ClientError: self.init(error)
        case let error as BadFile: self.init(.badFile, "\(error)")
        case let error as CacheError: self.init(error.code == .corrupt ? .badFile : .refused, "\(error)")
        default: return nil
        }
    }

    var description: String { message }
}
