internal import CLagKVKernels
public import CacheModel

/// LagKV's inner loops, compiled for one instruction set: what of the algorithm touches every number.
///
/// All sets give the same bounds and the same selection, bit for bit. All with fused multiply-add (every one but
/// `baseline`) give the same scores, bit for bit; `baseline` differs from them by rounding.
public struct Kernels: Sendable, CustomStringConvertible {
    // Safe: points to a constant of the program.
    private nonisolated(unsafe) let table: UnsafePointer<lagkv_score_kernels>

    /// Those that this processor can run, the fastest first.
    public static let all: [Kernels] = {
        var found: [Kernels] = []
        while let table = lagkv_score_kernels(found.count) { found.append(Kernels(table: table)) }
        return found
    }()

    /// The fastest that this processor can run; the choice is made once.
    public static let best = all[0]

    /// "avx512", "avx2", "neon" or "baseline".
    public var name: String { String(cString: table.pointee.name) }
    public var description: String { name }

    /// Writes the least and the greatest finite value of each channel, as elements: what LagKV scales the chunk before
    /// by, and what recall bounds a query's logits with. The order is total (−0 before +0), and exact. A channel without
    /// a finite value gets two zeros.
    ///
    /// Costs one read of `rows`.
    /// - Parameters:
    ///   - rows: one head's keys or values of a chunk, `[tokens, dim]`, contiguous.
    ///   - lo, hi: `dim` elements each.
    public func bounds(of rows: RawSpan, dim: Int, element: ElementType, lo: inout MutableRawSpan, hi: inout MutableRawSpan) {
        let tokens = Self.tokens(of: rows, dim: dim, element: element)
        precondition(lo.byteCount == dim * element.byteCount && hi.byteCount == lo.byteCount, "bounds are one row each")
        rows.withUnsafeBytes { rows in
            lo.withUnsafeMutableBytes { lo in
                hi.withUnsafeMutableBytes { hi in
                    table.pointee.bounds(
                        element.rawValue, rows.baseAddress, tokens, UInt32(dim), lo.baseAddress, hi.baseAddress)
                }
            }
        }
    }

    /// Writes the offsets of the highest scores, as many as `offsets` takes, ascending. Of equal scores the earlier wins.
    ///
    /// - Parameter scores: each 0 or greater, +∞ included; at least as many as `offsets` takes.
    public func select(highestOf scores: Span<Float>, into offsets: inout MutableSpan<UInt32>) {
        precondition(offsets.count <= scores.count, "no more are kept than there are")
        scores.withUnsafeBufferPointer { scores in
            offsets.withUnsafeMutableBufferPointer { offsets in
                // Safe: a chunk has at most Limits.lag tokens.
                table.pointee.select(scores.baseAddress, UInt32(scores.count), UInt32(offsets.count), offsets.baseAddress)
            }
        }
    }

    /// Writes σ of each row of `rows`, scaled by `lo` and `hi`, to the front of `deviations`, and asks the cache for
    /// `ahead`, which is read next.
    func deviations(
        of rows: RawSpan, dim: Int, element: ElementType, lo: RawSpan, hi: RawSpan, ahead: RawSpan, into deviations: inout [Float]
    ) {
        let tokens = Self.tokens(of: rows, dim: dim, element: element)
        precondition(lo.byteCount == dim * element.byteCount && hi.byteCount == lo.byteCount, "bounds are one row each")
        precondition(deviations.count >= lagkv_padded(Int(tokens)))
        rows.withUnsafeBytes { rows in
            lo.withUnsafeBytes { lo in
                hi.withUnsafeBytes { hi in
                    ahead.withUnsafeBytes { ahead in
                        deviations.withUnsafeMutableBufferPointer { deviations in
                            table.pointee.deviations(
                                element.rawValue, rows.baseAddress, tokens, UInt32(dim), lo.baseAddress, hi.baseAddress,
                                ahead.baseAddress, ahead.count / Int(tokens), deviations.baseAddress)
                        }
                    }
                }
            }
        }
    }

    /// Turns the keys' deviations into scores and spends the values'. Returns how many tokens are abnormal.
    func scores(keys: inout [Float], values: inout [Float], tokens: Int, valueWeight: Float) -> Int {
        precondition(keys.count >= lagkv_padded(tokens) && values.count >= lagkv_padded(tokens))
        return keys.withUnsafeMutableBufferPointer { keys in
            values.withUnsafeMutableBufferPointer { values in
                Int(table.pointee.scores(keys.baseAddress, values.baseAddress, UInt32(tokens), valueWeight))
            }
        }
    }

    /// Floats in an array of one for each token: whole vectors.
    static func padded(_ tokens: Int) -> Int { lagkv_padded(tokens) }

    private static func tokens(of rows: RawSpan, dim: Int, element: ElementType) -> UInt32 {
        let (tokens, rest) = rows.byteCount.quotientAndRemainder(dividingBy: dim * element.byteCount)
        precondition(rest == 0 && tokens > 0 && (1...Limits.channels).contains(dim), "whole rows, at least one")
        return UInt32(tokens)
    }
}
