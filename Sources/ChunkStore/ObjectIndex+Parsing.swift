public import CacheModel

extension ObjectIndex {
    /// Reads and validates header and index.
    ///
    /// - Parameters:
    ///   - bytes: the beginning of the file: `headerByteCount(for:)` bytes, or the whole file if that is shorter; more is fine.
    ///   - fileSize: bytes of the whole file.
    ///   - path: the file's name, for errors here and when blocks are decoded.
    ///   - description: what the object must have been written for; nil takes any.
    /// - Throws: `corrupt` where the file is not valid, `mismatch` where it is but was written for something else.
    public init(parsing bytes: RawSpan, fileSize: Int, path: String, expecting description: SessionDescription?)
        throws(CacheError)
    {
        let fault = Fault(path: path)
        let headerBytes = try Self.validatedHeaderBytes(bytes, fault)
        let header = try ObjectHeader(parsing: bytes, fault: fault)
        try fault.check("the length of header and index", headerBytes, is: Self.exactHeaderByteCount(header.geometry))
        let end = min(bytes.byteCount, Self.headerByteCount(for: header.geometry))
        try fault.checkZero("padding after the index", headerBytes..<end, of: bytes)
        self.init(header: header, entries: try Self.entries(bytes, header, fault), path: path)
        try fault.check(
            "the length of an object in its header", bytes.integer(at: 24, as: UInt64.self), is: UInt64(fileByteCount))
        try fault.check("the length of an object", fileSize, is: fileByteCount)
        if let description { try check(is: description) }
    }

    /// The length of header and index, whose checksum is right.
    private static func validatedHeaderBytes(_ bytes: RawSpan, _ fault: Fault) throws(CacheError) -> Int {
        guard bytes.byteCount >= ObjectHeader.byteCount else {
            throw fault.corrupt("the length of an object", seen: bytes.byteCount, expected: "at least \(ObjectHeader.byteCount)")
        }
        try fault.check("the first 8 bytes of an object", bytes.integer(at: 0, as: UInt64.self), is: ObjectHeader.magic)
        try fault.check("the version of an object", bytes.integer(at: 8, as: UInt32.self), is: ObjectHeader.version)
        let count = Int(bytes.integer(at: 16, as: UInt32.self))
        guard (ObjectHeader.byteCount...bytes.byteCount).contains(count) else {
            throw fault.corrupt(
                "the length of header and index", seen: count, expected: "\(ObjectHeader.byteCount) to \(bytes.byteCount)")
        }
        let sum = crc32c(bytes.extracting(16..<count))
        try fault.check("the checksum of header and index", bytes.integer(at: 12, as: UInt32.self), is: sum)
        return count
    }

    private static func entries(_ bytes: RawSpan, _ header: ObjectHeader, _ fault: Fault) throws(CacheError) -> [BlockEntry] {
        let rawLengths = rawLengths(of: header)
        var entries: [BlockEntry] = []
        entries.reserveCapacity(rawLengths.count)
        for (block, raw) in rawLengths.enumerated() {
            let entry = try entry(bytes, at: ObjectHeader.byteCount + BlockEntry.byteCount * block, fault)
            let stored = Int(entry.storedBytes)
            // Both others store all planes but the top one as they are, and are used only where they save something.
            let lowBytes = raw.bytes / header.geometry.element.byteCount * (header.geometry.element.byteCount - 1)
            let isPossible =
                switch entry.codec {
                case .raw: stored == raw.bytes
                case .planes, .tiers: raw.isRows && stored > lowBytes && stored < raw.bytes
                }
            guard isPossible else {
                throw fault.corrupt(
                    "the length of block \(block)", seen: "\(stored) bytes in codec \(entry.codec.rawValue)",
                    expected: "what \(raw.bytes) bytes can become")
            }
            entries.append(entry)
        }
        return entries
    }

    private static func entry(_ bytes: RawSpan, at offset: Int, _ fault: Fault) throws(CacheError) -> BlockEntry {
        let number = bytes.integer(at: offset + 8, as: UInt32.self)
        guard let codec = UInt8(exactly: number).flatMap(Codec.init(rawValue:)) else {
            throw fault.corrupt("the codec of a block", seen: number, expected: "0, 1 or 2")
        }
        return BlockEntry(storedBytes: bytes.integer(at: offset), checksum: bytes.integer(at: offset + 4), codec: codec)
    }

    /// How long each block is before coding, and whether it holds keys or values.
    static func rawLengths(of header: ObjectHeader) -> [(bytes: Int, isRows: Bool)] {
        let geometry = header.geometry
        var lengths = [(bytes: 4 * header.tokenCount, isRows: false)]
        let evicted = (0..<geometry.layers).map(header.evictedCount(layer:))
        for layer in 0..<geometry.layers {
            let kept = header.tokenCount - evicted[layer]
            lengths.append((evicted[layer] == 0 ? 0 : geometry.heads * KeptMap.byteCount(tokens: header.tokenCount), false))
            lengths.append((header.kind == .chunk ? 2 * geometry.heads * geometry.keyBytes : 0, false))
            lengths.append((geometry.heads * kept * geometry.keyBytes, true))
            lengths.append((geometry.heads * kept * geometry.valueBytes, true))
        }
        for layer in 0..<geometry.layers {
            for _ in 0..<geometry.heads {
                lengths.append((evicted[layer] * geometry.keyBytes, true))
                lengths.append((evicted[layer] * geometry.valueBytes, true))
            }
        }
        return lengths
    }

    private func check(is description: SessionDescription) throws(CacheError) {
        guard let difference = header.record.difference(from: DescriptionRecord(description)) else { return }
        throw CacheError(
            .mismatch, "the \(difference.field) of an object", seen: "\(difference.mine) in \(path)", expected: difference.others)
    }
}
