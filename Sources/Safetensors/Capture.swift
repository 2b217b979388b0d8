package import CacheModel
internal import LinuxKit

/// Keys and values of a model's run: tensors `layerN.k` and `layerN.v`, [heads, tokens, dim].
package struct Capture {
    package let geometry: Geometry
    package let tokens: Int
    package let ids: [UInt32]
    private let file: MappedFile
    private let keyRanges: [Range<Int>]
    private let valueRanges: [Range<Int>]

    /// - Throws: a `BadFile` that names the tensor that is missing or unlike the others.
    package init(path: String) throws {
        let file = try SafetensorsFile(path: path)
        let layers = Self.layers(of: file)
        guard let lowest = layers.first, let keys = file.header.tensors["layer\(lowest).k"],
            let values = file.header.tensors["layer\(lowest).v"]
        else { throw BadFile("\(path): no tensors layerN.k and layerN.v") }
        guard let element = ElementType(safetensorsName: keys.dtype) else {
            let known = ElementType.allCases.map(\.safetensorsName).joined(separator: ", ")
            throw BadFile("\(path): layer\(lowest).k is \(keys.dtype); seen as keys: \(known)")
        }
        guard keys.shape.count == 3, values.shape.count == 3 else {
            throw BadFile("\(path): layer\(lowest).k has shape \(keys.shape); expected [heads, tokens, dim]")
        }
        var (keyRanges, valueRanges): ([Range<Int>], [Range<Int>]) = ([], [])
        for layer in layers {
            for (name, first) in [("layer\(layer).k", keys), ("layer\(layer).v", values)] {
                guard let tensor = file.header.tensors[name], tensor.shape == first.shape, tensor.dtype == keys.dtype,
                    tensor.shape[..<2] == keys.shape[..<2], let range = try file.range(of: name, elementBytes: element.byteCount)
                else {
                    throw BadFile("\(path): tensor \(name) is missing, or not of the shape and dtype of layer \(lowest)")
                }
                if name.hasSuffix("k") { keyRanges.append(range) } else { valueRanges.append(range) }
            }
        }
        self.file = file.mapping
        self.keyRanges = keyRanges
        self.valueRanges = valueRanges
        tokens = keys.shape[1]
        ids = try Self.ids(of: file, tokens: keys.shape[1])
        do {
            geometry = try Geometry(
                layers: layers.count, heads: keys.shape[0], keyDim: keys.shape[2], valueDim: values.shape[2], element: element)
        } catch {
            throw BadFile("\(path): \(error)")
        }
    }

    /// The numbers of the layers in the file, ascending; a capture may hold a few of a model's layers only.
    private static func layers(of file: SafetensorsFile) -> [Int] {
        (0..<Limits.layers).filter { file.header.tensors["layer\($0).k"] != nil }
    }

    /// Token ids where the file has them, as `session export` writes them.
    private static func ids(of file: SafetensorsFile, tokens: Int) throws -> [UInt32] {
        guard let tensor = file.header.tensors["ids"], tensor.dtype == "U32", tensor.shape == [tokens],
            let range = try file.range(of: "ids", elementBytes: 4)
        else { return [] }
        let bytes = file.mapping.bytes(range)
        return (0..<tokens).map { bytes.unsafeLoadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self).littleEndian }
    }

    /// Keys of tokens `tokens` of one head, [tokens, keyDim].
    @_lifetime(borrow self)
    package func keys(layer: Int, head: Int, _ tokens: Range<Int>) -> RawSpan {
        file.bytes(part(keyRanges[layer], head, tokens, geometry.keyBytes))
    }

    /// Values of tokens `tokens` of one head, [tokens, valueDim].
    @_lifetime(borrow self)
    package func values(layer: Int, head: Int, _ tokens: Range<Int>) -> RawSpan {
        file.bytes(part(valueRanges[layer], head, tokens, geometry.valueBytes))
    }

    private func part(_ tensor: Range<Int>, _ head: Int, _ part: Range<Int>, _ rowBytes: Int) -> Range<Int> {
        let first = tensor.lowerBound + (head * tokens + part.lowerBound) * rowBytes
        return first..<first + part.count * rowBytes
    }

    /// The header of a capture of `tokens` tokens, tensors in the order in which they are written.
    package static func header(_ description: SessionDescription, tokens: Int) -> SafetensorsHeader {
        let geometry = description.geometry
        var header = SafetensorsHeader()
        let dtype = geometry.element.safetensorsName
        for layer in 0..<geometry.layers {
            for (name, dim) in [("k", geometry.keyDim), ("v", geometry.valueDim)] {
                header.append(
                    "layer\(layer).\(name)", dtype: dtype, shape: [geometry.heads, tokens, dim],
                    elementBytes: geometry.element.byteCount)
            }
        }
        header.append("ids", dtype: "U32", shape: [tokens], elementBytes: 4)
        header.metadata = ["format": "lagkv capture", "fingerprint": description.fingerprint]
        return header
    }
}
