import CZstd

/// A reader of objects written from FORMAT.md alone, for clarity and nothing else: it shares no code with the module.
struct NaiveReader {
    struct Malformed: Error {
        var what: String
    }

    struct Entry {
        var offset: Int
        var stored: Int
        var checksum: UInt32
        var codec: Int
    }

    let file: [UInt8]
    let layers, heads, keyDim, valueDim, element: Int
    let tokens: Int
    private(set) var entries: [Entry] = []
    /// Per layer, rows of one head in the evicted part.
    private(set) var evicted: [Int] = []

    init(_ file: [UInt8]) throws {
        self.file = file
        func number(_ offset: Int, _ size: Int) -> Int { (0..<size).reduce(0) { $0 | Int(file[offset + $1]) << (8 * $1) } }
        guard Array(file[0..<8]) == Array("LAGKVOBJ".utf8), number(8, 4) == 2 else { throw Malformed(what: "magic or version") }
        let headerBytes = number(16, 4)
        guard UInt32(number(12, 4)) == Self.crc(file[16..<headerBytes]) else { throw Malformed(what: "header checksum") }
        guard number(24, 8) == file.count else { throw Malformed(what: "file length") }
        (layers, heads, keyDim, valueDim) = (number(96, 4), number(100, 4), number(104, 4), number(108, 4))
        element = [1: 4, 2: 2, 3: 2, 4: 1, 5: 1][number(112, 4)]!
        tokens = number(88, 8)
        let lag = number(120, 4)
        let ratio = Double(bitPattern: UInt64(number(128, 4)) | UInt64(number(132, 4)) << 32)
        for layer in 0..<layers {
            let isCompressed = number(96 + 48 + layer / 8, 1) >> (layer % 8) & 1 == 0
            evicted.append(number(20, 4) == 1 && isCompressed ? lag - Int((ratio * Double(lag)).rounded(.down)) : 0)
        }
        let blocks = 1 + 4 * layers + 2 * layers * heads
        guard headerBytes == 512 + 12 * blocks else { throw Malformed(what: "header length") }
        func padded(_ count: Int) -> Int { (count + 4095) / 4096 * 4096 }
        var offset = padded(headerBytes)
        for block in 0..<blocks {
            if block == 1 + 4 * layers { offset = padded(offset) }
            let at = 512 + 12 * block
            entries.append(
                Entry(offset: offset, stored: number(at, 4), checksum: UInt32(number(at + 4, 4)), codec: number(at + 8, 4)))
            offset += number(at, 4)
        }
        guard padded(offset) == file.count else { throw Malformed(what: "sum of the parts") }
    }

    /// A block's contents, `count` numbers of `size` bytes.
    func block(_ number: Int, count: Int, size: Int) throws -> [UInt8] {
        let entry = entries[number]
        let stored = Array(file[entry.offset..<entry.offset + entry.stored])
        guard Self.crc(stored[...]) == entry.checksum else { throw Malformed(what: "checksum of block \(number)") }
        if entry.codec == 0 {
            guard stored.count == count * size else { throw Malformed(what: "length of block \(number)") }
            return stored
        }
        let lowBytes = count * (size - 1)
        let top = try (entry.codec == 1 ? frame : tiers)(Array(stored[lowBytes...]), count)
        guard top.count == count else { throw Malformed(what: "top plane of block \(number)") }
        var rows: [UInt8] = []
        for index in 0..<count {
            var bytes = (0..<size - 1).map { stored[$0 * count + index] } + [top[index]]
            // Rotating right by one: every byte takes the lowest bit of the next one, the last takes that of the first.
            let first = bytes[0]
            for byte in 0..<size { bytes[byte] = bytes[byte] >> 1 | (byte + 1 < size ? bytes[byte + 1] : first) << 7 }
            rows += bytes
        }
        return rows
    }

    private func frame(_ stored: [UInt8], _ count: Int) throws -> [UInt8] {
        let frame = [0x28, 0xB5, 0x2F, 0xFD] + stored
        var values = [UInt8](repeating: 0, count: count)
        guard ZSTD_decompress(&values, count, frame, frame.count) == count else { throw Malformed(what: "a frame") }
        return values
    }

    private func tiers(_ stored: [UInt8], _ count: Int) throws -> [UInt8] {
        var codes: [[Int]] = []
        var (offset, left) = (12, count)
        for _ in 0..<4 {
            let groups = (left + 63) / 64
            let all = (0..<groups * 64).map { Int(stored[offset + $0 / 64 * 16 + $0 % 16] >> UInt8($0 % 64 / 16 * 2) & 3) }
            guard all[left...].allSatisfy({ $0 == 0 }) else { throw Malformed(what: "codes of values that do not exist") }
            codes.append(Array(all[..<left]))
            left = codes.last!.count { $0 == 3 }
            offset += groups * 16
        }
        var values = Array(stored[offset...])
        guard values.count == left else { throw Malformed(what: "what is left after the tiers") }
        for (tier, codes) in codes.enumerated().reversed() {
            var escapes = values[...]
            values = codes.map { $0 < 3 ? stored[3 * tier + $0] : escapes.removeFirst() }
        }
        return values
    }

    func ids() throws -> [UInt8] { try block(0, count: tokens, size: 4) }

    func kept(layer: Int, head: Int) throws -> [Int] {
        guard evicted[layer] > 0 else { return Array(0..<tokens) }
        let headBytes = (tokens + 7) / 8
        let map = try block(1 + 4 * layer, count: heads * headBytes, size: 1)
        return (0..<tokens).filter { map[head * headBytes + $0 / 8] >> ($0 % 8) & 1 == 1 }
    }

    /// All tokens of one head in order, the bytes of a key or a value each.
    func rows(layer: Int, head: Int, values: Bool) throws -> [[UInt8]] {
        let dim = values ? valueDim : keyDim
        let kept = try kept(layer: layer, head: head)
        let count = tokens - evicted[layer]
        let keptBlock = try block((values ? 4 : 3) + 4 * layer, count: heads * count * dim, size: element)
        let evictedNumber = 1 + 4 * layers + 2 * (layer * heads + head) + (values ? 1 : 0)
        let evictedBlock = try block(evictedNumber, count: evicted[layer] * dim, size: element)
        let rowBytes = dim * element
        var keptRows = keptBlock[(head * count * rowBytes)...].prefix(count * rowBytes)
        var evictedRows = evictedBlock[...]
        return (0..<tokens).map { token in
            if kept.contains(token) {
                defer { keptRows = keptRows.dropFirst(rowBytes) }
                return Array(keptRows.prefix(rowBytes))
            }
            defer { evictedRows = evictedRows.dropFirst(rowBytes) }
            return Array(evictedRows.prefix(rowBytes))
        }
    }

    /// Bit by bit, as the definition says.
    static func crc(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var crc = ~UInt32(0)
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
        }
        return ~crc
    }
}
