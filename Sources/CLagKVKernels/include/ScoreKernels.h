#pragma once

#include <stddef.h>
#include <stdint.h>

/// The inner loops of LagKV for one instruction set. Every function is pure: it reads its inputs and writes its outputs,
/// allocates nothing, and may run on any number of threads at once.
///
/// Rows are `dim` elements each, contiguous, aligned to nothing. `element` is ElementType's raw value: 1 f32, 2 f16,
/// 3 bf16, 4 f8e4m3, 5 f8e5m2. Deviation and score arrays hold `lagkv_padded(tokens)` floats.
struct lagkv_score_kernels {
    /// "avx512", "avx2", "neon" or "baseline".
    const char *name;

    /// The least and the greatest finite value of each channel, as elements. The order is total: −0 comes before +0. A
    /// channel without a finite value gets two zeros.
    void (*bounds)(uint8_t element, const void *rows, uint32_t tokens, uint32_t dim, void *lo, void *hi);

    /// σ of each row after scaling by the bounds. Not finite if a value of the row is not, or if f32 cannot hold it.
    /// While it computes, it asks the cache for `ahead_stride` bytes at `ahead` for each row: what is read next.
    void (*deviations)(uint8_t element, const void *rows, uint32_t tokens, uint32_t dim, const void *lo, const void *hi,
                       const void *ahead, size_t ahead_stride, float *deviations);

    /// Turns the keys' deviations into scores, in place, and spends the values'. A token with a deviation that is not
    /// finite is abnormal: its score is +∞. Returns how many there are.
    uint32_t (*scores)(float *keys, float *values, uint32_t tokens, float value_weight);

    /// The `kept` tokens of the highest score, ascending; of equal ones the earlier. Scores are 0 or greater, +∞ included.
    void (*select)(const float *scores, uint32_t tokens, uint32_t kept, uint32_t *offsets);
};

/// The most channels of a row: their bounds lie on the stack as floats. The same as Limits.channels.
enum { LAGKV_CHANNELS = 1024 };

/// Floats in an array for `tokens` tokens: whole vectors.
static inline size_t lagkv_padded(size_t tokens) { return (tokens + 15) / 16 * 16; }

/// The kernels that this processor can run, the fastest first; NULL from the first index on that has none.
const struct lagkv_score_kernels *lagkv_score_kernels(size_t index);
