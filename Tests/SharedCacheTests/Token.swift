import CacheModel

/// One token of a model: its id, and its keys and values in every layer and head, all from one number.
final class Token: Sendable {
    let number: UInt64
    let id: UInt32
    private let geometry: Geometry
    /// [layer][head]: the key, then the value.
    private let bytes: [UInt8]

    /// - Parameter number: its low bits also say what is odd about it: once in 64 an abnormal number, once in 8 values so coarse
    ///   that scores tie.
    init(number: UInt64, geometry: Geometry) {
        self.number = number
        self.geometry = geometry
        id = UInt32(truncatingIfNeeded: SeededNumbers.mixed(number ^ 0x1D))
        var numbers = SeededNumbers(seed: number)
        let element = geometry.element
        let isCoarse = number % 8 == 3
        let isAbnormal = number % 64 == 5
        var bytes: [UInt8] = []
        bytes.reserveCapacity(geometry.tokenBytes)
        for _ in 0..<geometry.tokenBytes / element.byteCount {
            let random = numbers.next()
            var bits = element.ordinary(isCoarse ? random & 1 : random)
            if isAbnormal, random >> 48 & 7 == 0 { bits = element.abnormal(random >> 52) }
            for shift in 0..<UInt32(element.byteCount) { bytes.append(UInt8(truncatingIfNeeded: bits >> (8 * shift))) }
        }
        self.bytes = bytes
    }

    func key(layer: Int, head: Int) -> ArraySlice<UInt8> {
        let start = (layer * geometry.heads + head) * geometry.rowBytes
        return bytes[start..<start + geometry.keyBytes]
    }

    func value(layer: Int, head: Int) -> ArraySlice<UInt8> {
        let start = (layer * geometry.heads + head) * geometry.rowBytes + geometry.keyBytes
        return bytes[start..<start + geometry.valueBytes]
    }
}
