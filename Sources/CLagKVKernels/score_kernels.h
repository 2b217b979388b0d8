// The kernels of one instruction set, in portable C over vectors of 64 bytes; clang cuts them into the registers that
// the set has. Included once by each score_<set>.c, which defines what differs.
//
// Every set sums in the same order: 16 lanes, then a fixed tree. So all sets with multiply-add give the same bits.

#include "ScoreKernels.h"

#include <stdbool.h>

#pragma clang diagnostic ignored "-Wpsabi" // Vectors wider than a register are passed only between inlined functions.
#pragma STDC FP_CONTRACT OFF               // Multiply-adds stand where they are written and nowhere else.

#define INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

INLINE f32x16 splat(float x) { return (f32x16){} + x; }

// These take vectors of any width.
#if LAGKV_FUSED
#define multiply_add(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define multiply_add(a, b, c) ((a) * (b) + (c))
#endif
#define choose(mask, yes, no) \
    ((__typeof__(no))(((__typeof__(mask))(yes) & (mask)) | ((__typeof__(mask))(no) & ~(mask))))

INLINE f32x16 loaded(const float *from) {
    f32x16 x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, f32x16 x) { __builtin_memcpy(to, &x, sizeof x); }

// MARK: Elements to f32, a block of 32 channels at a time

/// A block's channels are two vectors of 16 lanes; a set whose registers are narrower takes some of the lanes at a time.
enum { block = 32, lanes = LAGKV_LANES, passes = 16 / lanes };

typedef float f32xn __attribute__((vector_size(4 * LAGKV_LANES)));
typedef int32_t i32xn __attribute__((vector_size(4 * LAGKV_LANES)));
typedef uint32_t u32xn __attribute__((vector_size(4 * LAGKV_LANES)));
typedef uint16_t u16xn __attribute__((vector_size(2 * LAGKV_LANES)));
typedef int16_t i16xn __attribute__((vector_size(2 * LAGKV_LANES)));
typedef uint8_t u8xn __attribute__((vector_size(LAGKV_LANES)));
typedef int8_t i8xn __attribute__((vector_size(LAGKV_LANES)));

/// The channels of a block that lie in some lanes. In which lane a channel lies is the element's own affair, as long as it is
/// always the same one.
typedef struct {
    f32xn a, b;
} channels;

/// Widens lanes `lane` … of the block at `from`.
typedef channels (*widener)(const uint8_t *from, uint32_t lane);

INLINE f32xn lanes_of(const float *from, uint32_t lane) {
    f32xn x;
    __builtin_memcpy(&x, from + lane, sizeof x);
    return x;
}

INLINE channels widen_f32(const uint8_t *from, uint32_t lane) {
    return (channels){lanes_of((const float *)from, lane), lanes_of((const float *)from + 16, lane)};
}

INLINE channels widen_bf16(const uint8_t *from, uint32_t lane) {
    // A bf16 is the upper half of a f32: the even channels go up, the odd ones lie there already.
    u32xn pairs;
    __builtin_memcpy(&pairs, from + 4 * lane, sizeof pairs);
    return (channels){(f32xn)(pairs << 16), (f32xn)(pairs & 0xffff0000)};
}

INLINE f32xn half_to_float(u16xn bits) {
#if LAGKV_HALF
    typedef _Float16 f16xn __attribute__((vector_size(2 * LAGKV_LANES)));
    return __builtin_convertvector((f16xn)bits, f32xn);
#else
    // Moved 13 bits up, f16's fields are f32's, but for a bias that is less by 112; the multiplication makes up for it and
    // normalises subnormals. An exponent of all ones stays all ones.
    u32xn wide = __builtin_convertvector(bits, u32xn);
    u32xn special = (u32xn)((wide & 0x7c00) == 0x7c00) & 0x7f800000;
    f32xn magnitude = (f32xn)((wide & 0x7fff) << 13) * 0x1p112f;
    return (f32xn)((u32xn)magnitude | special | ((wide & 0x8000) << 16));
#endif
}

INLINE channels widen_f16(const uint8_t *from, uint32_t lane) {
    u16xn a, b;
    __builtin_memcpy(&a, from + 2 * lane, sizeof a);
    __builtin_memcpy(&b, from + 2 * (16 + lane), sizeof b);
    return (channels){half_to_float(a), half_to_float(b)};
}

INLINE f32xn e5m2_to_float(const uint8_t *from) {
    // An e5m2 is the upper half of a f16.
    u8xn bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return half_to_float(__builtin_convertvector(bits, u16xn) << 8);
}

INLINE channels widen_e5m2(const uint8_t *from, uint32_t lane) {
    return (channels){e5m2_to_float(from + lane), e5m2_to_float(from + 16 + lane)};
}

INLINE f32xn e4m3_to_float(const uint8_t *from) {
    // Sign-extended and moved 7 bits up, e4m3's fields are f16's, but for the copy of the sign in bit 14 and for a bias that
    // is less by 8. So all numbers are 2⁻⁸ of what they should be, bounds too, and x̂ is what it should be. The one NaN (all
    // ones) becomes f16's.
    i8xn bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    i16xn wide = __builtin_convertvector(bits, i16xn);
    i16xn nan = ((wide & 0x7f) == 0x7f) & 0x7c00;
    return half_to_float((u16xn)(((wide << 7) & (int16_t)0xbf80) | nan));
}

INLINE channels widen_e4m3(const uint8_t *from, uint32_t lane) {
    return (channels){e4m3_to_float(from + lane), e4m3_to_float(from + 16 + lane)};
}

// MARK: Bounds

// All five formats are sign and magnitude, so three extrema of the bits as integers, without widening, tell the least and
// the greatest number: signed, the positive ones grow with their magnitude, and the negative ones (all below) with falling
// magnitude, reversed; unsigned, the negative ones lie above and grow with their magnitude.
//
//     greatest number = signed maximum if that is positive, else (all negative, the least magnitude) the signed minimum
//     least number    = unsigned maximum if that is negative, else (all positive, the least magnitude) the signed minimum
//
// Infinities and NaNs lie beyond the finite numbers on both sides. So where both results are finite all numbers were; a
// channel where they are not is done again, one number at a time.
//
// Example, f8e5m2, −1, 2, −4: 0xbc, 0x40, 0xc4. Signed −68, 64, −60: maximum 0x40 = 2. Unsigned maximum 0xc4 = −4.

#define DEFINE_BOUNDS(NAME, SIGNED, UNSIGNED)                                                                              \
    typedef SIGNED NAME##_signed __attribute__((vector_size(64)));                                                         \
    typedef UNSIGNED NAME##_unsigned __attribute__((vector_size(64)));                                                     \
                                                                                                                           \
    /* The bounds of `columns` × 64 bytes of each row; false if some are not finite. */                                    \
    INLINE bool NAME##_columns(const uint8_t *rows, size_t stride, uint32_t tokens, uint32_t columns, UNSIGNED special,    \
                               uint8_t *lo, uint8_t *hi) {                                                                 \
        NAME##_signed greatest[LAGKV_COLUMNS_AT_ONCE], least[LAGKV_COLUMNS_AT_ONCE];                                       \
        NAME##_unsigned farthest[LAGKV_COLUMNS_AT_ONCE];                                                                   \
        for (uint32_t c = 0; c < columns; c++) {                                                                           \
            __builtin_memcpy(&greatest[c], rows + 64 * c, 64);                                                             \
            least[c] = greatest[c];                                                                                        \
            farthest[c] = (NAME##_unsigned)greatest[c];                                                                    \
        }                                                                                                                  \
        for (uint32_t t = 1; t < tokens; t++) {                                                                            \
            const uint8_t *row = rows + t * stride;                                                                        \
            for (uint32_t c = 0; c < columns; c++) {                                                                       \
                NAME##_signed x;                                                                                           \
                __builtin_memcpy(&x, row + 64 * c, 64);                                                                    \
                greatest[c] = __builtin_elementwise_max(greatest[c], x);                                                   \
                least[c] = __builtin_elementwise_min(least[c], x);                                                         \
                farthest[c] = __builtin_elementwise_max(farthest[c], (NAME##_unsigned)x);                                  \
            }                                                                                                              \
        }                                                                                                                  \
        NAME##_signed bad = {};                                                                                            \
        for (uint32_t c = 0; c < columns; c++) {                                                                           \
            NAME##_signed some = greatest[c] >= 0, none = (NAME##_signed)farthest[c] >= 0;                                 \
            NAME##_signed top = (greatest[c] & some) | (least[c] & ~some);                                                 \
            NAME##_signed bottom = ((NAME##_signed)farthest[c] & ~none) | (least[c] & none);                               \
            SIGNED magnitude = (SIGNED)((UNSIGNED)~0 >> 1);                                                                \
            bad |= ((top & magnitude) >= (SIGNED)special) | ((bottom & magnitude) >= (SIGNED)special);                     \
            __builtin_memcpy(lo + 64 * c, &bottom, 64);                                                                    \
            __builtin_memcpy(hi + 64 * c, &top, 64);                                                                       \
        }                                                                                                                  \
        return __builtin_reduce_or(bad) == 0;                                                                              \
    }                                                                                                                      \
                                                                                                                           \
    /* The same for one channel, over its finite values only. */                                                           \
    static void NAME##_channel(const uint8_t *rows, size_t stride, uint32_t tokens, UNSIGNED special, uint8_t *lo,         \
                               uint8_t *hi) {                                                                              \
        const UNSIGNED magnitude = (UNSIGNED)((UNSIGNED)~0 >> 1);                                                          \
        UNSIGNED bottom = 0, top = 0;                                                                                      \
        SIGNED bottom_rank = 0, top_rank = 0;                                                                              \
        bool found = false;                                                                                                \
        for (uint32_t t = 0; t < tokens; t++) {                                                                            \
            UNSIGNED x;                                                                                                    \
            __builtin_memcpy(&x, rows + t * stride, sizeof x);                                                             \
            if ((UNSIGNED)(x & magnitude) >= special) continue;                                                            \
            SIGNED rank = (SIGNED)((SIGNED)x < 0 ? x ^ magnitude : x);                                                     \
            if (!found || rank < bottom_rank) bottom = x, bottom_rank = rank;                                              \
            if (!found || rank > top_rank) top = x, top_rank = rank;                                                       \
            found = true;                                                                                                  \
        }                                                                                                                  \
        __builtin_memcpy(lo, &bottom, sizeof bottom);                                                                      \
        __builtin_memcpy(hi, &top, sizeof top);                                                                            \
    }                                                                                                                      \
                                                                                                                           \
    static void NAME##_bounds(const uint8_t *rows, uint32_t tokens, size_t stride, UNSIGNED special, uint8_t *lo,          \
                              uint8_t *hi) {                                                                               \
        const size_t wide = 64 * LAGKV_COLUMNS_AT_ONCE;                                                                    \
        bool finite = stride >= 64;                                                                                        \
        size_t done = 0;                                                                                                   \
        for (; done + wide <= stride; done += wide)                                                                        \
            finite &= NAME##_columns(rows + done, stride, tokens, LAGKV_COLUMNS_AT_ONCE, special, lo + done, hi + done);   \
        while (finite && done < stride) {                                                                                  \
            /* The last column may overlap the one before: an extremum does not mind. */                                   \
            size_t from = done + 64 <= stride ? done : stride - 64;                                                        \
            finite &= NAME##_columns(rows + from, stride, tokens, 1, special, lo + from, hi + from);                       \
            done = from + 64;                                                                                              \
        }                                                                                                                  \
        if (finite) return;                                                                                                \
        for (size_t at = 0; at < stride; at += sizeof(UNSIGNED))                                                           \
            NAME##_channel(rows + at, stride, tokens, special, lo + at, hi + at);                                          \
    }

DEFINE_BOUNDS(bits8, int8_t, uint8_t)
DEFINE_BOUNDS(bits16, int16_t, uint16_t)
DEFINE_BOUNDS(bits32, int32_t, uint32_t)

static void bounds(uint8_t element, const void *rows, uint32_t tokens, uint32_t dim, void *lo, void *hi) {
    // The last argument but two is the least magnitude that is not a finite number.
    switch (element) {
    case 1: bits32_bounds(rows, tokens, (size_t)dim * 4, 0x7f800000, lo, hi); break;
    case 2: bits16_bounds(rows, tokens, (size_t)dim * 2, 0x7c00, lo, hi); break;
    case 3: bits16_bounds(rows, tokens, (size_t)dim * 2, 0x7f80, lo, hi); break;
    case 4: bits8_bounds(rows, tokens, dim, 0x7f, lo, hi); break;
    case 5: bits8_bounds(rows, tokens, dim, 0x7c, lo, hi); break;
    }
}

// MARK: Deviations

/// What the channels of a block are scaled by: y = x̂ − ½. A deviation does not change when all is shifted, and values around
/// zero leave more of f32's digits to the sum of squares.
///
/// f32:          y = (x − origin) · inverse − ½,  origin = lo
/// narrower:     y = x · inverse + origin,        origin = −lo · inverse − ½
///
/// The second form is one operation less. It rounds lo / (hi − lo), which f32 channels may make as great as 2²⁴ and then
/// lose every digit; narrower numbers of p bits are at least 2⁻ᵖ apart, and it is at most 2¹¹.
typedef struct {
    channels origin, inverse;
} scale;

/// Those of one pass: of some lanes of all blocks.
typedef struct {
    scale blocks[LAGKV_CHANNELS / block];
    /// The last block of a row that is no whole number of blocks: it ends where the row ends. Where it overlaps the block
    /// before (or, in a row shorter than a block, lies beyond it) y is 0.
    scale tail;
    channels tail_shift;
} scales;

INLINE f32xn scaled(bool wide, f32xn x, f32xn origin, f32xn inverse, f32xn shift) {
    return wide ? multiply_add(x - origin, inverse, shift) : multiply_add(x, inverse, origin);
}

INLINE void scale_between(bool wide, f32xn lo, f32xn hi, f32xn shift, f32xn *origin, f32xn *inverse) {
    // A constant channel (and one whose hi − lo has no reciprocal in f32: below 2⁻¹²⁸, above f32's greatest) adds nothing:
    // its inverse is 0, and so is its lo, as x − lo might overflow and ∞ · 0 is not 0.
    const f32xn zero = {};
    f32xn reciprocal = 1 / (hi - lo);
    i32xn live = (reciprocal > 0) & (reciprocal <= zero + __FLT_MAX__);
    lo = choose(live, lo, zero);
    *inverse = choose(live, reciprocal, zero);
    *origin = wide ? lo : multiply_add(-lo, *inverse, shift);
}

INLINE scale scale_block(bool wide, channels lo, channels hi, channels shift) {
    scale s;
    scale_between(wide, lo.a, hi.a, shift.a, &s.origin.a, &s.inverse.a);
    scale_between(wide, lo.b, hi.b, shift.b, &s.origin.b, &s.inverse.b);
    return s;
}

static const float shift = -0.5f;

INLINE void scale_by(widener widen, size_t size, const uint8_t *lo, const uint8_t *hi, uint32_t dim, uint32_t lane, scales *by) {
    const bool wide = size == sizeof(float);
    const f32xn zero = {}, half = zero + shift;
    for (uint32_t b = 0; b < dim / block; b++) {
        size_t at = b * block * size;
        by->blocks[b] = scale_block(wide, widen(lo + at, lane), widen(hi + at, lane), (channels){half, half});
    }
    if (dim % block == 0) return;

    uint8_t bottom[block * 4] = {0}, top[block * 4] = {0}, live[block * 4] = {0};
    size_t bytes = dim % block * size, at = dim < block ? 0 : block * size - bytes;
    __builtin_memcpy(bottom + at, lo + (dim * size - bytes), bytes);
    __builtin_memcpy(top + at, hi + (dim * size - bytes), bytes);
    __builtin_memset(live + at, 0x38, bytes); // A normal number, above 0, in every format.
    channels lives = widen(live, lane);
    by->tail_shift.a = choose(lives.a > 0, half, zero);
    by->tail_shift.b = choose(lives.b > 0, half, zero);
    by->tail = scale_block(wide, widen(bottom, lane), widen(top, lane), by->tail_shift);
}

INLINE void accumulate(bool wide, channels x, scale s, channels shift, f32xn *sum, f32xn *squares) {
    f32xn a = scaled(wide, x.a, s.origin.a, s.inverse.a, shift.a), b = scaled(wide, x.b, s.origin.b, s.inverse.b, shift.b);
    *sum = *sum + a + b;
    *squares = multiply_add(b, b, multiply_add(a, a, *squares));
}

typedef float f32x8 __attribute__((vector_size(32)));

/// Eight vectors to their eight sums, by one fixed tree: lanes 8 apart are added, then 4, 2 and 1 apart. The first operand of
/// each addition leaves its lanes where they are (a blend), only the second moves them.
/// The sums come in the order 0, 4, 2, 6, 1, 5, 3, 7.
INLINE f32x8 sums(const f32x16 v[8]) {
    f32x16 w[4], x[2];
    for (int i = 0; i < 4; i++)
        w[i] = __builtin_shufflevector(v[2 * i], v[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31) +
               __builtin_shufflevector(v[2 * i], v[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23);
    for (int i = 0; i < 2; i++)
        x[i] = __builtin_shufflevector(w[2 * i], w[2 * i + 1], 0, 1, 2, 3, 20, 21, 22, 23, 8, 9, 10, 11, 28, 29, 30, 31) +
               __builtin_shufflevector(w[2 * i], w[2 * i + 1], 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    f32x16 y = __builtin_shufflevector(x[0], x[1], 0, 1, 18, 19, 4, 5, 22, 23, 8, 9, 26, 27, 12, 13, 30, 31) +
               __builtin_shufflevector(x[0], x[1], 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29);
    f32x16 z = y + __builtin_shufflevector(y, y, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    return __builtin_shufflevector(z, z, 0, 2, 4, 6, 8, 10, 12, 14);
}

/// The sums of four rows, then their sums of squares, before the lanes are added.
typedef struct {
    float vectors[8][16];
} four_rows;

/// Some lanes at a time, so that all eight sums stay in registers.
INLINE void add_up(widener widen, size_t size, const uint8_t *const row[4], uint32_t dim, const scales by[], four_rows *total) {
    const bool wide = size == sizeof(float);
    const f32xn half = (f32xn){} + shift;
    const channels halves = {half, half};
    const uint32_t tail = dim % block;
    for (uint32_t p = 0; p < passes; p++) {
        const uint32_t lane = p * lanes;
        f32xn sum[4] = {}, squares[4] = {};
        for (uint32_t b = 0; b < dim / block; b++) {
            const scale s = by[p].blocks[b];
            for (uint32_t r = 0; r < 4; r++)
                accumulate(wide, widen(row[r] + b * block * size, lane), s, halves, &sum[r], &squares[r]);
        }
        for (uint32_t r = 0; tail != 0 && r < 4; r++) {
            uint8_t copy[block * 4] = {0};
            if (dim < block) __builtin_memcpy(copy, row[r], dim * size);
            channels x = widen(dim < block ? copy : row[r] + (dim - block) * size, lane);
            accumulate(wide, x, by[p].tail, by[p].tail_shift, &sum[r], &squares[r]);
        }
        for (uint32_t r = 0; r < 4; r++) {
            __builtin_memcpy(total->vectors[r] + lane, &sum[r], sizeof sum[r]);
            __builtin_memcpy(total->vectors[4 + r] + lane, &squares[r], sizeof squares[r]);
        }
    }
}

INLINE f32x4 deviations_from(const four_rows *total, uint32_t dim) {
    const float mean = 1.0f / (float)dim, unbiased = dim > 1 ? 1.0f / (float)(dim - 1) : 0;
    f32x16 vectors[8];
    __builtin_memcpy(vectors, total, sizeof vectors);
    f32x8 both = sums(vectors);
    f32x4 sum = __builtin_shufflevector(both, both, 0, 4, 2, 6), squares = __builtin_shufflevector(both, both, 1, 5, 3, 7);
    f32x4 variance = (squares - sum * sum * mean) * unbiased;
    variance = (f32x4)((i32x4)variance & ~(variance < 0)); // Rounding may leave less than zero; NaN stays NaN.
    return __builtin_elementwise_sqrt(variance);
}

INLINE void deviations_of(widener widen, size_t size, const uint8_t *rows, uint32_t tokens, uint32_t dim, const uint8_t *lo,
                          const uint8_t *hi, const uint8_t *ahead, size_t ahead_stride, float *out) {
    scales by[passes];
    for (uint32_t p = 0; p < passes; p++) scale_by(widen, size, lo, hi, dim, p * lanes, &by[p]);
    const size_t stride = dim * size;

    // Adding lanes is a long chain of short steps: of four times four rows they overlap.
    enum { fours = 4 };
    for (uint32_t first = 0; first < tokens; first += 4 * fours) {
        four_rows total[fours];
        const uint32_t end = tokens - first < 4 * fours ? tokens : first + 4 * fours;
        for (uint32_t t = first; t < end; t += 4) {
            const size_t until = (t + 4 < end ? t + 4 : end) * ahead_stride;
            // Into the second level: the first has no room, and waiting for memory would hold up its misses.
            for (size_t line = t * ahead_stride; line < until; line += 64) __builtin_prefetch(ahead + line, 0, 2);
            const uint8_t *row[4];
            for (uint32_t r = 0; r < 4; r++) // Beyond the last row the last is done again: its result is never read.
                row[r] = rows + (t + r < end ? t + r : end - 1) * stride;
            add_up(widen, size, row, dim, by, &total[(t - first) / 4]);
        }
        for (uint32_t t = first; t < end; t += 4) {
            f32x4 four = deviations_from(&total[(t - first) / 4], dim);
            __builtin_memcpy(out + t, &four, sizeof four);
        }
    }
}

static void deviations(uint8_t element, const void *rows, uint32_t tokens, uint32_t dim, const void *lo, const void *hi,
                       const void *ahead, size_t ahead_stride, float *out) {
    switch (element) {
    case 1: deviations_of(widen_f32, 4, rows, tokens, dim, lo, hi, ahead, ahead_stride, out); break;
    case 2: deviations_of(widen_f16, 2, rows, tokens, dim, lo, hi, ahead, ahead_stride, out); break;
    case 3: deviations_of(widen_bf16, 2, rows, tokens, dim, lo, hi, ahead, ahead_stride, out); break;
    case 4: deviations_of(widen_e4m3, 1, rows, tokens, dim, lo, hi, ahead, ahead_stride, out); break;
    case 5: deviations_of(widen_e5m2, 1, rows, tokens, dim, lo, hi, ahead, ahead_stride, out); break;
    }
}

// MARK: Scores

/// e to the x, for x ≤ 0, to 2 units in the last place; below −87 as at −87 (1.6 · 10⁻³⁸).
INLINE f32x16 exponential(f32x16 x) {
    x = choose(x > splat(-87), x, splat(-87));
    // x = n · ln 2 + r with |r| ≤ ½ ln 2. Adding 1.5 · 2²³ rounds to an integer; ln 2 is taken away in two parts, the first
    // of which is short enough for an exact product.
    f32x16 n = multiply_add(x, splat(0x1.715476p0f), splat(0x1.8p23f)) - 0x1.8p23f;
    f32x16 r = multiply_add(n, splat(-0x1.62e4p-1f), x);
    r = multiply_add(n, splat(-0x1.7f7d1cp-20f), r);
    f32x16 p = splat(1.0f / 720);
    p = multiply_add(p, r, splat(1.0f / 120));
    p = multiply_add(p, r, splat(1.0f / 24));
    p = multiply_add(p, r, splat(1.0f / 6));
    p = multiply_add(p, r, splat(0.5f));
    p = multiply_add(p, r, splat(1));
    p = multiply_add(p, r, splat(1));
    return p * (f32x16)((__builtin_convertvector(n, i32x16) + 127) << 23);
}

INLINE f32x16 total_lanes(f32x16 a, f32x16 b) {
    f32x16 zero = {}, v[8] = {a, zero, zero, zero, b, zero, zero, zero};
    f32x8 both = sums(v);
    f32x16 out = {both[0], both[1]};
    return out;
}

static uint32_t scores(float *keys, float *values, uint32_t tokens, float value_weight) {
    const uint32_t padded = (uint32_t)lagkv_padded(tokens);
    const f32x16 infinity = splat(__builtin_inff());
    for (uint32_t t = tokens; t < padded; t++) keys[t] = values[t] = __builtin_inff(); // As abnormal: they add nothing.

    f32x16 key_top = {}, value_top = {};
    for (uint32_t t = 0; t < padded; t += 16) {
        f32x16 k = loaded(keys + t), v = loaded(values + t);
        i32x16 normal = (k < infinity) & (v < infinity);
        key_top = choose(normal & (k > key_top), k, key_top);
        value_top = choose(normal & (v > value_top), v, value_top);
    }
    const f32x16 key_most = splat(__builtin_reduce_max(key_top)), value_most = splat(__builtin_reduce_max(value_top));

    f32x16 key_sum = {}, value_sum = {};
    i32x16 normal_count = {};
    for (uint32_t t = 0; t < padded; t += 16) {
        f32x16 k = loaded(keys + t), v = loaded(values + t);
        i32x16 normal = (k < infinity) & (v < infinity);
        k = choose(normal, exponential(k - key_most), splat(0));
        v = choose(normal, exponential(v - value_most), splat(0));
        key_sum += k;
        value_sum += v;
        normal_count -= normal;
        store(keys + t, choose(normal, k, infinity));
        store(values + t, v);
    }
    const f32x16 both = total_lanes(key_sum, value_sum);
    const f32x16 key_share = splat(1 / both[0]), value_share = splat(value_weight / both[1]);

    for (uint32_t t = 0; t < padded; t += 16) {
        f32x16 k = loaded(keys + t), score = multiply_add(loaded(values + t), value_share, k * key_share);
        store(keys + t, choose(k < infinity, score, infinity));
    }
    return tokens - (uint32_t)__builtin_reduce_add(normal_count);
}

// MARK: Selection

/// Scores as integers: the bits of numbers from 0 to +∞ are ordered as the numbers are.
INLINE i32x16 ranks(const float *scores) { return (i32x16)loaded(scores); }

INLINE uint32_t reaching(const float *scores, uint32_t whole, i32x16 rest, int32_t threshold) {
    const i32x16 thresholds = (i32x16){} + threshold;
    i32x16 count = rest >= thresholds;
    for (uint32_t t = 0; t < whole; t += 16) count += ranks(scores + t) >= thresholds;
    return (uint32_t)-__builtin_reduce_add(count);
}

static void select(const float *scores, uint32_t tokens, uint32_t kept, uint32_t *offsets) {
    if (kept == 0) return;

    // Whole vectors, and the rest in one that is filled up with −1, below any score.
    const uint32_t whole = tokens / 16 * 16;
    i32x16 rest = (i32x16){} - 1;
    __builtin_memcpy(&rest, scores + whole, (tokens - whole) * sizeof *scores);
    i32x16 most = rest;
    u32x16 least = (u32x16)rest; // Unsigned, −1 is the greatest.
    for (uint32_t t = 0; t < whole; t += 16) {
        least = __builtin_elementwise_min(least, (u32x16)ranks(scores + t));
        most = __builtin_elementwise_max(most, ranks(scores + t));
    }

    // The greatest threshold that at least `kept` ranks reach, by bisection: each step is a count, which needs no branch.
    // With 128 tokens it takes about ten of them, less time than moving tokens about would.
    int32_t threshold = (int32_t)__builtin_reduce_min(least), beyond = __builtin_reduce_max(most) + 1;
    uint32_t at_threshold = tokens;
    while (at_threshold > kept && beyond - threshold > 1) {
        int32_t middle = threshold + (beyond - threshold) / 2;
        uint32_t count = reaching(scores, whole, rest, middle);
        if (count >= kept) threshold = middle, at_threshold = count;
        else beyond = middle;
    }

    uint32_t count = 0;
    if (at_threshold == kept) {
        for (uint32_t t = 0; count < kept; t++) {
            int32_t rank;
            __builtin_memcpy(&rank, scores + t, sizeof rank);
            offsets[count] = t;
            count += rank >= threshold;
        }
        return;
    }
    // More are equal to the threshold than fit: the earlier ones do.
    uint32_t ties = kept - reaching(scores, whole, rest, threshold + 1);
    for (uint32_t t = 0; count < kept; t++) {
        int32_t rank;
        __builtin_memcpy(&rank, scores + t, sizeof rank);
        bool tie = rank == threshold && ties != 0;
        offsets[count] = t;
        count += rank > threshold || tie;
        ties -= tie;
    }
}

const struct lagkv_score_kernels LAGKV_KERNELS = {LAGKV_NAME, bounds, deviations, scores, select};
