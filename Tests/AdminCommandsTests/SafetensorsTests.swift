import CacheModel
import Foundation
import LinuxKit
import Safetensors
import Testing

@Suite("safetensors files")
struct SafetensorsTests {
    private let directory = FileManager.default.temporaryDirectory.appending(path: "safetensors-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true) }

    private func place(_ name: String = "x.safetensors") -> String { directory.appending(path: name).path }

    private func description(_ element: ElementType = .bfloat16) throws -> SessionDescription {
        try SessionDescription(
            geometry: Geometry(layers: 2, heads: 2, keyDim: 3, valueDim: 5, element: element),
            policy: Policy(sink: 1, lag: 4, keepRatio: 0.5), capacity: 10, fingerprint: "a \"model\"")
    }

    /// Bytes 0, 1, 2, …, then ids 0, 1, 2.
    private func write(_ description: SessionDescription, tokens: Int) throws {
        let header = Capture.header(description, tokens: tokens)
        var writer = try SafetensorsWriter(path: place(), header)
        let data = (0..<tokens * description.geometry.tokenBytes).map { UInt8(truncatingIfNeeded: $0) }
        try writer.append(data.span.bytes)
        let ids = Array(0..<UInt32(tokens))
        try writer.append(ids.span.bytes)
        try writer.finish()
    }

    @Test("a capture comes back as it was written, for every element type", arguments: ElementType.allCases)
    func roundTrip(element: ElementType) throws {
        let description = try description(element)
        try write(description, tokens: 3)
        let capture = try Capture(path: place())
        #expect(capture.geometry == description.geometry)
        #expect(capture.tokens == 3)
        #expect(capture.ids == [0, 1, 2])
        let size = element.byteCount
        // Layer 0: keys [2, 3, 3], values [2, 3, 5]; layer 1 begins after 48 numbers.
        let first = capture.keys(layer: 1, head: 1, 1..<2).withUnsafeBytes { Array($0) }
        #expect(first == ((48 + 9 + 3) * size..<(48 + 9 + 6) * size).map { UInt8(truncatingIfNeeded: $0) })
        #expect(capture.values(layer: 0, head: 0, 0..<3).withUnsafeBytes { $0.count } == 15 * size)
        #expect(!FileManager.default.fileExists(atPath: place() + ".partial"))
    }

    @Test("every truncation of a file is refused")
    func truncations() throws {
        try write(try description(), tokens: 2)
        let whole = try Data(contentsOf: URL(filePath: place()))
        for length in 0..<whole.count {
            try whole[..<length].write(to: URL(filePath: place("short")))
            #expect(throws: BadFile.self, "\(length) of \(whole.count) bytes") { try Capture(path: place("short")) }
        }
    }

    @Test(
        "a header that lies is refused",
        arguments: [
            #"{}"#, #"[]"#, #"{"layer0.k":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[0,2]}}"#,
            #"{"layer0.k":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[0,2]},"layer0.v":{"dtype":"F32","shape":[1,1,1],"data_offsets":[0,4]}}"#,
            #"{"layer0.k":{"dtype":"I64","shape":[1,1,1],"data_offsets":[0,8]},"layer0.v":{"dtype":"I64","shape":[1,1,1],"data_offsets":[0,8]}}"#,
            #"{"layer0.k":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]},"layer0.v":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}"#,
            #"{"layer0.k":{"dtype":"BF16","shape":[1,2,1],"data_offsets":[0,2]},"layer0.v":{"dtype":"BF16","shape":[1,2,1],"data_offsets":[0,2]}}"#,
            #"{"layer0.k":{"dtype":"BF16","shape":[4611686018427387904,4611686018427387904,9],"data_offsets":[0,2]},"layer0.v":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[0,2]}}"#,
            #"{"layer0.k":{"dtype":"BF16","shape":[-1,1,1],"data_offsets":[0,2]},"layer0.v":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[0,2]}}"#,
            #"{"layer0.k":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[6,90]},"layer0.v":{"dtype":"BF16","shape":[1,1,1],"data_offsets":[0,2]}}"#,
        ])
    func badHeaders(json: String) throws {
        var file = withUnsafeBytes(of: UInt64(json.utf8.count).littleEndian) { Data($0) }
        file.append(contentsOf: json.utf8)
        file.append(Data(count: 8))
        try file.write(to: URL(filePath: place()))
        #expect(throws: BadFile.self) { try Capture(path: place()) }
    }
}
