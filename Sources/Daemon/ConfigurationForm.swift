internal import ArgumentParser
internal import Logging

/// How a value is written: read strictly, shown so that reading what is shown gives the same value again.
struct ConfigurationForm<Value>: Sendable {
    let name: String
    var completion = CompletionKind.default
    let read: @Sendable (_ text: String, Surroundings, DaemonSettings) throws(ConfigurationRefusal) -> Value
    let show: @Sendable (Value) -> String
}

/// Why a text is not a value: what was seen, what would have been accepted.
struct ConfigurationRefusal: Error {
    let seen: String
    let expected: String
}

extension ConfigurationForm<String> {
    /// Relative paths begin at the working directory.
    static let path = Self(name: "path", completion: .directory) { (text, surroundings, _) throws(ConfigurationRefusal) in
        guard !text.isEmpty, !text.utf8.contains(0) else {
            throw ConfigurationRefusal(seen: "“\(text)”", expected: "a path")
        }
        return text.hasPrefix("/") ? text : surroundings.workingDirectory + "/" + text
    } show: {
        $0
    }

    static let socketPath = Self(name: "path", completion: .file()) {
        (text, surroundings, settings) throws(ConfigurationRefusal) in
        let path = try Self.path.read(text, surroundings, settings)
        guard path.utf8.count <= longestSocketPath else {
            throw ConfigurationRefusal(
                seen: "\(path.utf8.count) bytes: \(path)",
                expected: "at most \(longestSocketPath) bytes (the kernel's limit for Unix sockets)")
        }
        return path
    } show: {
        $0
    }

    /// `sun_path` holds 108 bytes, the last of which is 0.
    private static var longestSocketPath: Int { 107 }
}

extension ConfigurationForm<Int> {
    /// The least size that makes sense anywhere: below it no session of any model fits.
    private static var leastSize: Int { 1 << 20 }

    static let size = size(name: "size", expected: "a size such as 512MiB or 4GB, at least 1MiB", whole: nil)

    /// A size, or a percentage of `whole`, rounded down to a whole MiB.
    static func size(percentOf what: String, whole: @escaping @Sendable (Surroundings, DaemonSettings) -> Int) -> Self {
        size(
            name: "size or %", expected: "a size such as 512MiB or 4GB, at least 1MiB, or a percentage of \(what) such as 25%",
            whole: whole)
    }

    private static func size(
        name: String, expected: String, whole: (@Sendable (Surroundings, DaemonSettings) -> Int)?
    ) -> Self {
        Self(name: name) { (text, surroundings, settings) throws(ConfigurationRefusal) in
            let refusal = ConfigurationRefusal(seen: "“\(text)”", expected: expected)
            guard let (number, unit) = splitQuantity(text) else { throw refusal }
            if unit == "%" {
                guard let whole, number <= 100 else { throw refusal }
                let share = Int(Double(whole(surroundings, settings)) * number / 100)
                return max((share >> 20) << 20, leastSize)
            }
            // 2^53: beyond it a Double no longer holds every whole number of bytes, and no machine has 8 PiB.
            guard let scale = sizeUnits[unit], number * scale >= Double(leastSize), number * scale <= 0x1p53 else {
                throw refusal
            }
            return Int(number * scale)
        } show: { size in
            for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] where size % (1 << shift) == 0 {
                return "\(size >> shift)\(unit)"
            }
            return "\(size)"
        }
    }

    static func count(_ range: ClosedRange<Int>) -> Self {
        Self(name: "count") { (text, _, _) throws(ConfigurationRefusal) in
            guard text.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains), let count = Int(text),
                range.contains(count)
            else {
                throw ConfigurationRefusal(
                    seen: "“\(text)”", expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return count
        } show: {
            "\($0)"
        }
    }
}

extension ConfigurationForm<UInt16> {
    static let mode = Self(name: "octal") { (text, _, _) throws(ConfigurationRefusal) in
        guard (1...4).contains(text.utf8.count), text.utf8.first != UInt8(ascii: "+"), let mode = UInt16(text, radix: 8),
            mode <= 0o777
        else {
            throw ConfigurationRefusal(seen: "“\(text)”", expected: "octal permission bits from 0000 to 0777 such as 0660")
        }
        return mode
    } show: { mode in
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: 4 - digits.count) + digits
    }
}

extension ConfigurationForm<Duration> {
    static let duration = Self(name: "duration") { (text, _, _) throws(ConfigurationRefusal) in
        let refusal = ConfigurationRefusal(seen: "“\(text)”", expected: "0, or a duration such as 500ms, 90s, 10min, 12h or 7d")
        if text == "0" { return .zero }
        // A hundred years in milliseconds: far from where the arithmetic of deadlines would overflow.
        guard let (number, unit) = splitQuantity(text), let scale = durationUnits[unit], number * scale <= 3.2e12 else {
            throw refusal
        }
        return .milliseconds(Int(number * scale))
    } show: { duration in
        if duration == .zero { return "0" }
        let milliseconds = Int(duration / .milliseconds(1))
        for (unit, scale) in durationUnits.sorted(by: { $0.value > $1.value }) where milliseconds % Int(scale) == 0 {
            return "\(milliseconds / Int(scale))\(unit)"
        }
        return "\(milliseconds)ms"
    }
}

extension ConfigurationForm<Logger.Level> {
    static let logLevel = Self(
        name: "level", completion: .list(Logger.Level.allCases.map(\.rawValue))
    ) { (text, _, _) throws(ConfigurationRefusal) in
        guard let level = Logger.Level(rawValue: text) else {
            throw ConfigurationRefusal(
                seen: "“\(text)”", expected: "one of " + Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return level
    } show: {
        $0.rawValue
    }
}

/// K, M, G and T alone are powers of 1,024, as in systemd's units.
private let sizeUnits: [String: Double] = [
    "": 1, "B": 1,
    "K": 0x1p10, "KiB": 0x1p10, "M": 0x1p20, "MiB": 0x1p20, "G": 0x1p30, "GiB": 0x1p30, "T": 0x1p40, "TiB": 0x1p40,
    "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
]

/// In milliseconds.
private let durationUnits: [String: Double] = ["ms": 1, "s": 1e3, "min": 6e4, "h": 3.6e6, "d": 8.64e7]

/// "1.5 GiB" is 1.5 and "GiB". Nothing but digits and one point makes a number: no signs, exponents, infinities.
private func splitQuantity(_ text: String) -> (number: Double, unit: String)? {
    let digits = text.prefix { $0.isASCII && $0.isNumber || $0 == "." }
    guard digits.first != ".", digits.last != ".", let number = Double(digits) else { return nil }
    return (number, String(text[digits.endIndex...].drop { $0 == " " }))
}
