public import CacheModel

/// Whose session is meant: a u32 on the wire, where 2^32 − 1 means the caller's own.
public enum Owner: Sendable, Hashable {
    case own
    /// A user id, the caller's included.
    case user(UInt32)
}

extension Owner: WireValue {
    public static var fewestBytes: Int { 4 }

    public init(from reader: inout ByteReader) throws(CacheError) {
        let number = try reader.u32()
        self = number == .max ? .own : .user(number)
    }

    /// - Precondition: the user id is not 2^32 − 1, which no user has.
    public func write(to writer: inout ByteWriter) {
        switch self {
        case .own: writer.u32(.max)
        case .user(let number):
            precondition(number != .max, "no user has the id 2^32 − 1")
            writer.u32(number)
        }
    }
}

/// One session among those of all users.
public struct SessionReference: Sendable, Hashable {
    public var name: SessionName
    public var owner: Owner

    public init(_ name: SessionName, owner: Owner = .own) {
        self.name = name
        self.owner = owner
    }
}

extension SessionReference: WireValue {
    public static var fewestBytes: Int { SessionName.fewestBytes + Owner.fewestBytes }

    public init(from reader: inout ByteReader) throws(CacheError) {
        name = try SessionName(from: &reader)
        owner = try Owner(from: &reader)
    }

    public func write(to writer: inout ByteWriter) {
        name.write(to: &writer)
        owner.write(to: &writer)
    }
}
