internal import CLagKVKernels
internal import CZstd
internal import Synchronization

/// What coding needs besides its input and output: zstd's contexts and planes of work memory, kept for the next time.
///
/// One scratch serves any number of threads: each takes a context out while it works on a layer and puts it back. It
/// grows to as many contexts as ever worked at a time, each with the largest top plane that it has seen.
public final class CodecScratch: Sendable {
    private let idle = Mutex<[CodecContext]>([])

    public init() {}

    /// Every context that is taken must be given back.
    func take() -> CodecContext { idle.withLock { $0.popLast() } ?? CodecContext() }

    func giveBack(_ context: CodecContext) { idle.withLock { $0.append(context) } }
}

/// Safe to send: `CodecScratch` hands it to one thread at a time.
final class CodecContext: @unchecked Sendable {
    private let compressor: OpaquePointer
    private let decompressor: OpaquePointer
    /// The top plane of the block at work, then twice as much for the tiers below the first.
    private var work: UnsafeMutableBufferPointer<UInt8> = .allocate(capacity: 1 << 17)

    init() {
        guard let compressor = ZSTD_createCCtx(), let decompressor = ZSTD_createDCtx() else { fatalError("no memory for zstd") }
        self.compressor = compressor
        self.decompressor = decompressor
        // The lowest level looks for no matches, which in a plane of exponents cost more bits than they save, and only
        // codes each byte by its frequency. zstd takes a level below 1 for a wish not to do that either: insist.
        set(ZSTD_c_compressionLevel, ZSTD_minCLevel())
        set(ZSTD_c_experimentalParam5, Int32(ZSTD_ps_enable.rawValue))  // ZSTD_c_literalCompressionMode
        // Magic, length and checksum are in our index already: 3 bytes of overhead instead of 9 to 17.
        set(ZSTD_c_experimentalParam2, Int32(ZSTD_f_zstd1_magicless.rawValue))  // ZSTD_c_format
        set(ZSTD_c_contentSizeFlag, 0)
        precondition(
            ZSTD_isError(ZSTD_DCtx_setParameter(decompressor, ZSTD_d_experimentalParam1, Int32(ZSTD_f_zstd1_magicless.rawValue)))
                == 0)
    }

    deinit {
        ZSTD_freeCCtx(compressor)
        ZSTD_freeDCtx(decompressor)
        work.deallocate()
    }

    private func set(_ parameter: ZSTD_cParameter, _ value: Int32) {
        precondition(ZSTD_isError(ZSTD_CCtx_setParameter(compressor, parameter, value)) == 0, "zstd refuses a parameter")
    }

    /// Room for a top plane of `count` bytes; what is in it is undefined.
    func topPlane(count: Int) -> UnsafeMutableBufferPointer<UInt8> {
        let byteCount = 3 * lagkv_tiers_room(count)
        if work.count < byteCount {
            work.deallocate()
            work = .allocate(capacity: byteCount)
        }
        return UnsafeMutableBufferPointer(rebasing: work[..<count])
    }

    /// Whether a plane that `topPlane` gave is likely to be halved by tiers: the exponents of bfloat16 and float32. What has bits of
    /// the mantissa or few values is better off in a frame.
    func tiers(of plane: UnsafeMutableBufferPointer<UInt8>) -> lagkv_tiers_t? {
        var plan = lagkv_tiers_t()
        lagkv_tiers_plan(plane.baseAddress!, plane.count, &plan)
        return plan.likely_bytes <= plane.count / 2 ? plan : nil
    }

    /// Stores a plane that `topPlane` gave in tiers; the plane is lost.
    /// - Returns: the stored length, or nil if it does not fit.
    func encodeTiers(
        _ plane: UnsafeMutableBufferPointer<UInt8>, _ plan: lagkv_tiers_t, into stored: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let room = stored.assumingMemoryBound(to: UInt8.self)
        let count = withUnsafePointer(to: plan) { lagkv_tiers_encode(plane.baseAddress!, plane.count, $0, room.baseAddress!, room.count) }
        return count > 0 ? count : nil
    }

    /// - Parameter ahead: how many bytes after `stored` are there to be decoded next.
    /// - Returns: whether `stored` is tiers of as many values as `plane`, which `topPlane` gave, has.
    func decodeTiers(_ stored: UnsafeRawBufferPointer, into plane: UnsafeMutableBufferPointer<UInt8>, ahead: Int) -> Bool {
        let bytes = stored.baseAddress!.assumingMemoryBound(to: UInt8.self)
        let below = work.baseAddress! + lagkv_tiers_room(plane.count)
        return lagkv_tiers_decode(bytes, stored.count, ahead, plane.baseAddress!, plane.count, below) != 0
    }

    /// - Returns: the frame's length, or nil if it does not fit.
    func compress(_ plane: UnsafeMutableBufferPointer<UInt8>, into frame: UnsafeMutableRawBufferPointer) -> Int? {
        let count = ZSTD_compress2(compressor, frame.baseAddress, frame.count, plane.baseAddress, plane.count)
        return ZSTD_isError(count) == 0 ? count : nil
    }

    /// - Returns: whether `frame` is one frame that fills `plane` exactly.
    func decompress(_ frame: UnsafeRawBufferPointer, into plane: UnsafeMutableBufferPointer<UInt8>) -> Bool {
        // An error is a number above any length.
        ZSTD_decompressDCtx(decompressor, plane.baseAddress, plane.count, frame.baseAddress, frame.count) == plane.count
    }
}
