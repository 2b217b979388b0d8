internal import FoundationEssentials

/// Prints values for programs: one JSON document, keys in order, numbers without units (bytes, seconds, milliseconds since
/// 1970 as their keys say).
enum JSONOutput {
    static func text(_ value: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        do {
            return String(decoding: try encoder.encode(value), as: UTF8.self)
        } catch {
            fatalError("\(error): only plain values are printed")
        }
    }

    static func print(_ value: some Encodable) { Swift.print(text(value)) }
}

/// A dictionary whose keys are known only when it is printed.
struct JSONFields: Encodable {
    var fields: [(String, any Encodable)]

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(_ text: String) { stringValue = text }
        init?(stringValue: String) { self.init(stringValue) }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        for (key, value) in fields { try container.encode(value, forKey: Key(key)) }
    }
}
