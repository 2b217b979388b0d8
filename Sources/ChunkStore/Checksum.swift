internal import CLagKVKernels

/// CRC-32C, in every table of FORMAT.md that has a checksum.
func crc32c(_ bytes: RawSpan) -> UInt32 {
    bytes.withUnsafeBytes { bytes in
        // Safe: zero bytes are summed without looking at the pointer, which is nil then.
        guard let base = bytes.baseAddress else { return 0 }
        return lagkv_crc32c(0, base.assumingMemoryBound(to: UInt8.self), bytes.count)
    }
}
