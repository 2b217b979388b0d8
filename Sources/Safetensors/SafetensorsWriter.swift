package import LinuxKit

/// Writes a safetensors file front to back, its header first; it appears under its name when it is whole.
package struct SafetensorsWriter: ~Copyable {
    private var file: NewFile
    private var remaining: Int

    package init(path: String, _ header: SafetensorsHeader) throws(KernelError) {
        var file = try NewFile(path: path)
        try file.append(header.encoded().span.bytes)
        self.file = file
        remaining = header.dataBytes
    }

    /// Tensors in the order in which they were added to the header.
    package mutating func append(_ bytes: RawSpan) throws(KernelError) {
        remaining -= bytes.byteCount
        try file.append(bytes)
    }

    package consuming func finish() throws(KernelError) {
        precondition(remaining == 0, "\(remaining) bytes of the header's tensors were not written")
        try file.finish()
    }
}
