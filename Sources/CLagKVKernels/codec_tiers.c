#include "CodecKernels.h"
#include "codec_levels.h"
#include <string.h>

/* A tier is a sequence of groups. Byte i of a group's 16 holds the codes of its values i, i + 16, i + 32 and i + 48, from
   the lowest bits up: so that a vector of bytes, shifted, is the codes of consecutive values. */
enum { GROUP = LAGKV_TIERS_GROUP, GROUP_BYTES = GROUP / 4, SYMBOLS = 3, ESCAPE = 3 };

static size_t groups_of(size_t count) { return (count + GROUP - 1) / GROUP; }

/* Values that are as frequent are taken in their order, so that a plane has one code. */
static int is_before(const uint32_t *counts, uint8_t a, uint8_t b) {
    return counts[a] > counts[b] || (counts[a] == counts[b] && a < b);
}

/* Of a long plane a seventh is counted: all of it would take longer than coding it. In eights, so that a load brings
   eight values; seven of them apart, so that they move over all channels of rows of 64, 80, 96, 128 or 256. */
enum { EIGHT = 8, SAMPLE_STEP = 7 * EIGHT, COUNTED_WHOLE = 2048 };

/* How often each value is among those counted; how many those are. */
static size_t count_values(const uint8_t *plane, size_t count, uint32_t *counts) {
    /* Four histograms, so that a run of one value does not wait for its own count. */
    uint32_t histograms[4][256] = {0};
    const size_t step = count <= COUNTED_WHOLE ? EIGHT : SAMPLE_STEP;
    size_t i = 0, counted = 0;
    for (; i + EIGHT <= count; i += step, counted += EIGHT) {
        uint64_t eight;
        memcpy(&eight, plane + i, EIGHT);
        for (int value = 0; value < EIGHT; value++) histograms[value & 3][eight >> 8 * value & 0xFF]++;
    }
    for (; i < count; i++, counted++) histograms[0][plane[i]]++;
    for (int value = 0; value < 256; value++)
        counts[value] = histograms[0][value] + histograms[1][value] + histograms[2][value] + histograms[3][value];
    return counted;
}

void lagkv_tiers_plan(const uint8_t *plane, size_t count, lagkv_tiers_t *plan) {
    uint32_t counts[256];
    const size_t counted = count_values(plane, count, counts);
    uint8_t found[256];
    size_t values = 0;
    for (int value = 0; value < 256; value++)
        if (counts[value] > 0) found[values++] = (uint8_t)value;
    for (int value = 0; values < sizeof plan->symbols; value++)
        if (counts[value] == 0) found[values++] = (uint8_t)value;

    size_t left = counted, stored = 0;
    for (size_t s = 0; s < sizeof plan->symbols; s++) {
        if (s % SYMBOLS == 0) stored += groups_of(left) * GROUP_BYTES;
        size_t best = s;
        for (size_t other = s + 1; other < values; other++)
            if (is_before(counts, found[other], found[best])) best = other;
        plan->symbols[s] = found[best];
        found[best] = found[s];
        left -= counts[plan->symbols[s]];
    }
    stored += left;
    plan->likely_bytes = sizeof plan->symbols + (counted == count ? stored : stored * count / counted);
}

/* How many of the codes are escapes: both bits are set. */
EACH_LEVEL static size_t escapes_of(const uint8_t *codes, size_t groups) {
    size_t escapes = 0;
    for (size_t i = 0; i < groups * GROUP_BYTES; i += 8) {
        uint64_t word;
        memcpy(&word, codes + i, 8);
        escapes += (size_t)__builtin_popcountll(word & word >> 1 & 0x5555555555555555);
    }
    return escapes;
}

/* Codes whole groups of `plane`, and moves what has no symbol to its beginning; how many bytes that is. */
typedef size_t encode_tier(uint8_t *plane, size_t groups, const uint8_t *symbols, uint8_t *codes);

/* Bytes to bring into the caches while a tier is decoded. */
typedef struct {
    const uint8_t *from, *end;
} fetch;

/* As many bytes as a group's values take when each has two: decoding keeps the processor busy, and memory idle. */
static inline void fetch_group(fetch *ahead) {
    for (int line = 0; line < 2 && ahead->from < ahead->end; line++, ahead->from += 64) __builtin_prefetch(ahead->from, 0, 2);
}

/* The inverse. May read 8 bytes beyond the escapes. */
typedef void decode_tier(const uint8_t *codes, size_t groups, const uint8_t *symbols, const uint8_t *escapes, uint8_t *plane, fetch ahead);

static size_t encode_tier_portable(uint8_t *plane, size_t groups, const uint8_t *symbols, uint8_t *codes) {
    size_t escapes = 0;
    for (size_t first = 0; first < groups * GROUP; first += GROUP, codes += GROUP_BYTES) {
        memset(codes, 0, GROUP_BYTES);
        for (size_t i = 0; i < GROUP; i++) {
            uint8_t value = plane[first + i];
            int code = value == symbols[0] ? 0 : value == symbols[1] ? 1 : value == symbols[2] ? 2 : ESCAPE;
            codes[i % GROUP_BYTES] |= (uint8_t)(code << i / GROUP_BYTES * 2);
            plane[escapes] = value;
            escapes += code == ESCAPE;
        }
    }
    return escapes;
}

static void decode_tier_portable(const uint8_t *codes, size_t groups, const uint8_t *symbols, const uint8_t *escapes, uint8_t *plane,
                                 fetch ahead) {
    (void)ahead;
    for (size_t first = 0; first < groups * GROUP; first += GROUP, codes += GROUP_BYTES)
        for (size_t i = 0; i < GROUP; i++) {
            int code = codes[i % GROUP_BYTES] >> i / GROUP_BYTES * 2 & 3;
            plane[first + i] = code == ESCAPE ? *escapes : symbols[code];
            escapes += code == ESCAPE;
        }
}

#if defined(__x86_64__) || defined(__aarch64__)
/* For a mask of eight bytes: where each byte of the mask comes from when the bytes lie packed, and where each packed byte
   comes from. The top bit makes a shuffle write 0. */
static uint8_t unpacked_from[256][8], packed_from[256][8];

__attribute__((constructor)) static void make_shuffles(void) {
    for (int mask = 0; mask < 256; mask++) {
        uint8_t packed = 0;
        memset(unpacked_from[mask], 0x80, 8);
        memset(packed_from[mask], 0x80, 8);
        for (uint8_t byte = 0; byte < 8; byte++) {
            if (!(mask >> byte & 1)) continue;
            unpacked_from[mask][byte] = packed;
            packed_from[mask][packed++] = byte;
        }
    }
}
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,popcnt")))

AVX2 static inline __m128i load8(const uint8_t *bytes) { return _mm_loadl_epi64((const __m128i *)bytes); }

/* 16 bytes: those in the mask are the next escapes, the others 0. */
AVX2 static inline __m128i unpack_escapes(const uint8_t **escapes, unsigned mask) {
    unsigned low = mask & 0xFF, high = mask >> 8 & 0xFF;
    __m128i a = _mm_shuffle_epi8(load8(*escapes), load8(unpacked_from[low]));
    *escapes += _mm_popcnt_u32(low);
    __m128i b = _mm_shuffle_epi8(load8(*escapes), load8(unpacked_from[high]));
    *escapes += _mm_popcnt_u32(high);
    return _mm_unpacklo_epi64(a, b);
}

AVX2 static inline void decode_32(__m256i codes, __m256i symbols, const uint8_t **escapes, uint8_t *plane) {
    codes = _mm256_and_si256(codes, _mm256_set1_epi8(3));
    unsigned mask = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(codes, _mm256_set1_epi8(ESCAPE)));
    __m128i low = unpack_escapes(escapes, mask), high = unpack_escapes(escapes, mask >> 16);
    __m256i values = _mm256_or_si256(_mm256_shuffle_epi8(symbols, codes), _mm256_set_m128i(high, low));
    _mm256_storeu_si256((__m256i *)plane, values);
}

AVX2 static void decode_tier_avx2(const uint8_t *codes, size_t groups, const uint8_t *symbols, const uint8_t *escapes, uint8_t *plane,
                                  fetch ahead) {
    const __m256i table = _mm256_set1_epi32(symbols[0] | symbols[1] << 8 | symbols[2] << 16);
    const __m256i first_shifts = _mm256_set_epi32(2, 2, 2, 2, 0, 0, 0, 0), second_shifts = _mm256_set_epi32(6, 6, 6, 6, 4, 4, 4, 4);
    for (; groups > 0; groups--, codes += GROUP_BYTES, plane += GROUP) {
        fetch_group(&ahead);
        __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)codes));
        decode_32(_mm256_srlv_epi32(twice, first_shifts), table, &escapes, plane);
        decode_32(_mm256_srlv_epi32(twice, second_shifts), table, &escapes, plane + 32);
    }
}

/* Writes whole eights of bytes from the position of the first on, never beyond the 32 that it was given. */
AVX2 static inline uint8_t *pack_escapes(__m128i values, unsigned mask, uint8_t *escapes) {
    unsigned low = mask & 0xFF, high = mask >> 8 & 0xFF;
    _mm_storel_epi64((__m128i *)escapes, _mm_shuffle_epi8(values, load8(packed_from[low])));
    escapes += _mm_popcnt_u32(low);
    _mm_storel_epi64((__m128i *)escapes, _mm_shuffle_epi8(_mm_unpackhi_epi64(values, values), load8(packed_from[high])));
    return escapes + _mm_popcnt_u32(high);
}

/* The codes of 32 values; the mask says which are escapes. */
AVX2 static inline __m256i codes_of(__m256i values, const __m256i symbols[3], unsigned *mask) {
    __m256i is0 = _mm256_cmpeq_epi8(values, symbols[0]), is1 = _mm256_cmpeq_epi8(values, symbols[1]);
    __m256i is2 = _mm256_cmpeq_epi8(values, symbols[2]);
    __m256i none = _mm256_cmpeq_epi8(_mm256_or_si256(_mm256_or_si256(is0, is1), is2), _mm256_setzero_si256());
    *mask = (unsigned)_mm256_movemask_epi8(none);
    __m256i ones = _mm256_and_si256(_mm256_or_si256(is1, none), _mm256_set1_epi8(1));
    __m256i twos = _mm256_and_si256(_mm256_or_si256(is2, none), _mm256_set1_epi8(2));
    return _mm256_or_si256(ones, twos);
}

AVX2 static size_t encode_tier_avx2(uint8_t *plane, size_t groups, const uint8_t *symbols, uint8_t *codes) {
    const __m256i wanted[3] = {
        _mm256_set1_epi8((char)symbols[0]), _mm256_set1_epi8((char)symbols[1]), _mm256_set1_epi8((char)symbols[2])};
    uint8_t *escapes = plane;
    for (const uint8_t *group = plane; groups > 0; groups--, group += GROUP, codes += GROUP_BYTES) {
        __m256i first = _mm256_loadu_si256((const __m256i *)group), second = _mm256_loadu_si256((const __m256i *)(group + 32));
        unsigned first_mask, second_mask;
        __m256i a = codes_of(first, wanted, &first_mask), b = codes_of(second, wanted, &second_mask);
        /* Safe: a code has two bits, so that no shift carries into the next byte. */
        __m256i halves = _mm256_or_si256(a, _mm256_slli_epi16(b, 4));
        __m128i packed = _mm_or_si128(_mm256_castsi256_si128(halves), _mm_slli_epi16(_mm256_extracti128_si256(halves, 1), 2));
        _mm_storeu_si128((__m128i *)codes, packed);
        escapes = pack_escapes(_mm256_castsi256_si128(first), first_mask, escapes);
        escapes = pack_escapes(_mm256_extracti128_si256(first, 1), first_mask >> 16, escapes);
        escapes = pack_escapes(_mm256_castsi256_si128(second), second_mask, escapes);
        escapes = pack_escapes(_mm256_extracti128_si256(second, 1), second_mask >> 16, escapes);
    }
    return (size_t)(escapes - plane);
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }
static encode_tier *best_encode(void) { return has_avx2() ? encode_tier_avx2 : encode_tier_portable; }
static decode_tier *best_decode(void) { return has_avx2() ? decode_tier_avx2 : decode_tier_portable; }
#elif defined(__aarch64__)
#include <arm_neon.h>

/* Which of 16 bytes, all ones or zeros, are ones: the first eight, and the others. */
typedef struct {
    unsigned low, high;
} halves;

static inline halves mask_of(uint8x16_t bytes) {
    const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    uint8x16_t marked = vandq_u8(bytes, bits);
    return (halves){vaddv_u8(vget_low_u8(marked)), vaddv_u8(vget_high_u8(marked))};
}

/* 8 bytes: those in the mask are the next escapes, the others 0. */
static inline uint8x8_t unpack_escapes(const uint8_t **escapes, unsigned mask) {
    uint8x8_t values = vtbl1_u8(vld1_u8(*escapes), vld1_u8(unpacked_from[mask]));
    *escapes += __builtin_popcount(mask);
    return values;
}

static inline void decode_16(uint8x16_t codes, uint8x16_t symbols, const uint8_t **escapes, uint8_t *plane) {
    codes = vandq_u8(codes, vdupq_n_u8(3));
    halves mask = mask_of(vceqq_u8(codes, vdupq_n_u8(ESCAPE)));
    uint8x8_t low = unpack_escapes(escapes, mask.low), high = unpack_escapes(escapes, mask.high);
    vst1q_u8(plane, vorrq_u8(vqtbl1q_u8(symbols, codes), vcombine_u8(low, high)));
}

static void decode_tier_neon(const uint8_t *codes, size_t groups, const uint8_t *symbols, const uint8_t *escapes, uint8_t *plane,
                             fetch ahead) {
    const uint8x16_t table = vreinterpretq_u8_u32(vdupq_n_u32(symbols[0] | symbols[1] << 8 | symbols[2] << 16));
    for (; groups > 0; groups--, codes += GROUP_BYTES, plane += GROUP) {
        fetch_group(&ahead);
        uint8x16_t four = vld1q_u8(codes);
        decode_16(four, table, &escapes, plane);
        decode_16(vshrq_n_u8(four, 2), table, &escapes, plane + 16);
        decode_16(vshrq_n_u8(four, 4), table, &escapes, plane + 32);
        decode_16(vshrq_n_u8(four, 6), table, &escapes, plane + 48);
    }
}

/* Writes whole eights of bytes from the position of the first on, never beyond the 16 that it was given. */
static inline uint8_t *pack_escapes(uint8x16_t values, halves mask, uint8_t *escapes) {
    vst1_u8(escapes, vtbl1_u8(vget_low_u8(values), vld1_u8(packed_from[mask.low])));
    escapes += __builtin_popcount(mask.low);
    vst1_u8(escapes, vtbl1_u8(vget_high_u8(values), vld1_u8(packed_from[mask.high])));
    return escapes + __builtin_popcount(mask.high);
}

/* The codes of 16 values; the mask says which are escapes. */
static inline uint8x16_t codes_of(uint8x16_t values, const uint8x16_t symbols[3], halves *mask) {
    uint8x16_t is1 = vceqq_u8(values, symbols[1]), is2 = vceqq_u8(values, symbols[2]);
    uint8x16_t none = vmvnq_u8(vorrq_u8(vceqq_u8(values, symbols[0]), vorrq_u8(is1, is2)));
    *mask = mask_of(none);
    return vorrq_u8(vandq_u8(vorrq_u8(is1, none), vdupq_n_u8(1)), vandq_u8(vorrq_u8(is2, none), vdupq_n_u8(2)));
}

static size_t encode_tier_neon(uint8_t *plane, size_t groups, const uint8_t *symbols, uint8_t *codes) {
    const uint8x16_t wanted[3] = {vdupq_n_u8(symbols[0]), vdupq_n_u8(symbols[1]), vdupq_n_u8(symbols[2])};
    uint8_t *escapes = plane;
    for (const uint8_t *group = plane; groups > 0; groups--, group += GROUP, codes += GROUP_BYTES) {
        /* All are read before the first escape is written, perhaps over them. */
        uint8x16x4_t values = vld1q_u8_x4(group);
        halves mask[4];
        uint8x16_t packed = codes_of(values.val[0], wanted, &mask[0]);
        packed = vorrq_u8(packed, vshlq_n_u8(codes_of(values.val[1], wanted, &mask[1]), 2));
        packed = vorrq_u8(packed, vshlq_n_u8(codes_of(values.val[2], wanted, &mask[2]), 4));
        packed = vorrq_u8(packed, vshlq_n_u8(codes_of(values.val[3], wanted, &mask[3]), 6));
        vst1q_u8(codes, packed);
        for (int quarter = 0; quarter < 4; quarter++) escapes = pack_escapes(values.val[quarter], mask[quarter], escapes);
    }
    return (size_t)(escapes - plane);
}

static encode_tier *best_encode(void) { return encode_tier_neon; }
static decode_tier *best_decode(void) { return decode_tier_neon; }
#else
static encode_tier *best_encode(void) { return encode_tier_portable; }
static decode_tier *best_decode(void) { return decode_tier_portable; }
#endif

static size_t encode(encode_tier *tier, uint8_t *plane, size_t count, const lagkv_tiers_t *plan, uint8_t *stored, size_t room) {
    size_t at = sizeof plan->symbols;
    if (room < at) return 0;
    memcpy(stored, plan->symbols, at);
    for (const uint8_t *symbols = plan->symbols; symbols < plan->symbols + sizeof plan->symbols; symbols += SYMBOLS) {
        size_t groups = groups_of(count);
        if (room - at < groups * GROUP_BYTES) return 0;
        memset(plane + count, symbols[0], groups * GROUP - count);
        count = tier(plane, groups, symbols, stored + at);
        at += groups * GROUP_BYTES;
    }
    if (room - at < count) return 0;
    memcpy(stored + at, plane, count);
    return at + count;
}

/* The last of a tier's groups may have codes of values that do not exist: they must be 0. */
static int is_padded(const uint8_t *codes, size_t count) {
    const uint8_t *last = codes + count / GROUP * GROUP_BYTES;
    for (size_t i = count % GROUP; count % GROUP > 0 && i < GROUP; i++)
        if (last[i % GROUP_BYTES] >> i / GROUP_BYTES * 2 & 3) return 0;
    return 1;
}

static int decode(decode_tier *tier, const uint8_t *stored, size_t stored_bytes, size_t ahead_bytes, uint8_t *plane, size_t count,
                  uint8_t *work) {
    const uint8_t *codes[LAGKV_TIERS];
    size_t counts[LAGKV_TIERS + 1], at = LAGKV_TIERS * SYMBOLS;
    if (stored_bytes < at) return 0;
    counts[0] = count;
    for (int t = 0; t < LAGKV_TIERS; t++) {
        size_t groups = groups_of(counts[t]);
        if (stored_bytes - at < groups * GROUP_BYTES) return 0;
        codes[t] = stored + at;
        if (!is_padded(codes[t], counts[t])) return 0;
        counts[t + 1] = escapes_of(codes[t], groups);
        at += groups * GROUP_BYTES;
    }
    if (stored_bytes - at != counts[LAGKV_TIERS]) return 0;

    const fetch ahead = {stored + stored_bytes, stored + stored_bytes + ahead_bytes};
    /* From the last tier up; each one's values are the escapes of the one above. */
    uint8_t *halves[2] = {work, work + lagkv_tiers_room(count)};
    uint8_t *escapes = halves[LAGKV_TIERS % 2];
    memcpy(escapes, stored + at, counts[LAGKV_TIERS]);
    for (int t = LAGKV_TIERS - 1; t >= 0; t--) {
        uint8_t *values = t == 0 ? plane : halves[t % 2];
        tier(codes[t], groups_of(counts[t]), stored + t * SYMBOLS, escapes, values, t == 0 ? ahead : (fetch){0});
        escapes = values;
    }
    return 1;
}

size_t lagkv_tiers_encode(uint8_t *plane, size_t count, const lagkv_tiers_t *plan, uint8_t *stored, size_t room) {
    return encode(best_encode(), plane, count, plan, stored, room);
}

size_t lagkv_tiers_encode_portable(uint8_t *plane, size_t count, const lagkv_tiers_t *plan, uint8_t *stored, size_t room) {
    return encode(encode_tier_portable, plane, count, plan, stored, room);
}

int lagkv_tiers_decode(const uint8_t *stored, size_t stored_bytes, size_t ahead_bytes, uint8_t *plane, size_t count, uint8_t *work) {
    return decode(best_decode(), stored, stored_bytes, ahead_bytes, plane, count, work);
}

int lagkv_tiers_decode_portable(const uint8_t *stored, size_t stored_bytes, size_t ahead_bytes, uint8_t *plane, size_t count,
                                uint8_t *work) {
    return decode(decode_tier_portable, stored, stored_bytes, ahead_bytes, plane, count, work);
}
