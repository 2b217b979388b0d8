internal import CacheModel
internal import FoundationEssentials
internal import Glibc
internal import LinuxKit

/// A safetensors file, mapped for reading.
struct SafetensorsFile {
    let path: String
    let header: SafetensorsHeader
    let mapping: MappedFile
    /// Where the tensors' bytes begin.
    private let dataOffset: Int

    init(path: String) throws {
        let mapping: MappedFile
        do {
            mapping = try MappedFile(Descriptor.open(path, O_RDONLY), writable: false, requireSealed: false)
        } catch {
            throw BadFile("\(path): \(error)")
        }
        guard mapping.byteCount >= 8 else {
            throw BadFile("\(path): \(mapping.byteCount) bytes are no safetensors file")
        }
        let headerBytes = mapping.bytes(0..<8).unsafeLoadUnaligned(as: UInt64.self).littleEndian
        guard headerBytes <= min(SafetensorsHeader.largestByteCount, mapping.byteCount - 8) else {
            throw BadFile("\(path): no safetensors file; its first 8 bytes claim a header of \(headerBytes) bytes")
        }
        let dataOffset = 8 + Int(headerBytes)
        let header: SafetensorsHeader
        let json = mapping.withUnsafeBytes(8..<dataOffset) { Data($0) }
        do {
            header = try JSONDecoder().decode(SafetensorsHeader.self, from: json)
        } catch {
            throw BadFile("\(path): its header is not that of a safetensors file: \(error)")
        }
        for (name, tensor) in header.tensors {
            let offsets = tensor.dataOffsets
            guard offsets.count == 2, offsets[0] >= 0, offsets[0] <= offsets[1], offsets[1] <= mapping.byteCount - dataOffset,
                tensor.shape.allSatisfy({ $0 >= 0 })
            else { throw BadFile("\(path): tensor \(name) lies outside the file") }
        }
        self.path = path
        self.mapping = mapping
        self.dataOffset = dataOffset
        self.header = header
    }

    /// Where a tensor's bytes lie in the file; nil without such a tensor.
    /// - Throws: if they are not as many as its shape needs.
    func range(of name: String, elementBytes: Int) throws -> Range<Int>? {
        guard let tensor = header.tensors[name] else { return nil }
        var expected = elementBytes
        for count in tensor.shape {
            let product = expected.multipliedReportingOverflow(by: count)
            guard !product.overflow else { throw BadFile("\(path): the shape of \(name) is absurd") }
            expected = product.partialValue
        }
        let range = dataOffset + tensor.dataOffsets[0]..<dataOffset + tensor.dataOffsets[1]
        guard range.count == expected else {
            throw BadFile("\(path): tensor \(name) has \(range.count) bytes, and its shape needs \(expected)")
        }
        return range
    }
}
