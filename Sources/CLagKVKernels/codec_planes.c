#include "CodecKernels.h"
#include "codec_levels.h"
#include <string.h>

EACH_LEVEL static void split8(const uint8_t *restrict rows, size_t count, uint8_t *restrict top) {
    for (size_t i = 0; i < count; i++) top[i] = (uint8_t)(rows[i] << 1 | rows[i] >> 7);
}

EACH_LEVEL static void merge8(const uint8_t *restrict top, size_t count, uint8_t *restrict rows) {
    for (size_t i = 0; i < count; i++) rows[i] = (uint8_t)(top[i] >> 1 | top[i] << 7);
}

EACH_LEVEL static void split16(const uint8_t *restrict rows, size_t count, uint8_t *restrict low, uint8_t *restrict top) {
    for (size_t i = 0; i < count; i++) {
        uint16_t x;
        memcpy(&x, rows + 2 * i, 2);
        x = (uint16_t)(x << 1 | x >> 15);
        low[i] = (uint8_t)x;
        top[i] = (uint8_t)(x >> 8);
    }
}

EACH_LEVEL static void merge16(const uint8_t *restrict low, const uint8_t *restrict top, size_t count, uint8_t *restrict rows) {
    for (size_t i = 0; i < count; i++) {
        uint16_t x = (uint16_t)(top[i] << 8 | low[i]);
        x = (uint16_t)(x >> 1 | x << 15);
        memcpy(rows + 2 * i, &x, 2);
    }
}

EACH_LEVEL static void split32(const uint8_t *restrict rows, size_t count, uint8_t *restrict low0, uint8_t *restrict low1,
                               uint8_t *restrict low2, uint8_t *restrict top) {
    for (size_t i = 0; i < count; i++) {
        uint32_t x;
        memcpy(&x, rows + 4 * i, 4);
        x = x << 1 | x >> 31;
        low0[i] = (uint8_t)x;
        low1[i] = (uint8_t)(x >> 8);
        low2[i] = (uint8_t)(x >> 16);
        top[i] = (uint8_t)(x >> 24);
    }
}

EACH_LEVEL static void merge32(const uint8_t *restrict low0, const uint8_t *restrict low1, const uint8_t *restrict low2,
                               const uint8_t *restrict top, size_t count, uint8_t *restrict rows) {
    for (size_t i = 0; i < count; i++) {
        uint32_t x = (uint32_t)top[i] << 24 | (uint32_t)low2[i] << 16 | (uint32_t)low1[i] << 8 | low0[i];
        x = x >> 1 | x << 31;
        memcpy(rows + 4 * i, &x, 4);
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Past the caches: rows are more than fits there, and whoever wants them next is another process. Without this the processor
   first reads each line that it is about to overwrite. For whole, aligned lines: parts of a line are dear to write so. */
__attribute__((target("avx2"))) static void merge16_streaming(const uint8_t *low, const uint8_t *top, size_t count, uint8_t *rows) {
    for (size_t i = 0; i < count; i += 32) {
        __m256i l = _mm256_loadu_si256((const __m256i *)(low + i)), t = _mm256_loadu_si256((const __m256i *)(top + i));
        __m256i a = _mm256_unpacklo_epi8(l, t), b = _mm256_unpackhi_epi8(l, t);
        a = _mm256_or_si256(_mm256_srli_epi16(a, 1), _mm256_slli_epi16(a, 15));
        b = _mm256_or_si256(_mm256_srli_epi16(b, 1), _mm256_slli_epi16(b, 15));
        _mm256_stream_si256((__m256i *)(rows + 2 * i), _mm256_permute2x128_si256(a, b, 0x20));
        _mm256_stream_si256((__m256i *)(rows + 2 * i + 32), _mm256_permute2x128_si256(a, b, 0x31));
    }
}

static int can_stream16(size_t count, const uint8_t *rows) {
    return (2 * count | (uintptr_t)rows) % 64 == 0 && __builtin_cpu_supports("avx2");
}

void lagkv_planes_merged(void) { _mm_sfence(); }
#else
#define merge16_streaming merge16
static int can_stream16(size_t count, const uint8_t *rows) {
    (void)count, (void)rows;
    return 0;
}
void lagkv_planes_merged(void) {}
#endif

void lagkv_planes_split(size_t element, const uint8_t *rows, size_t count, uint8_t *low, size_t stride, uint8_t *top) {
    switch (element) {
    case 1: split8(rows, count, top); break;
    case 2: split16(rows, count, low, top); break;
    case 4: split32(rows, count, low, low + stride, low + 2 * stride, top); break;
    default: __builtin_trap();
    }
}

void lagkv_planes_merge(size_t element, const uint8_t *low, size_t stride, const uint8_t *top, size_t count, uint8_t *rows) {
    switch (element) {
    case 1: merge8(top, count, rows); break;
    case 2: (can_stream16(count, rows) ? merge16_streaming : merge16)(low, top, count, rows); break;
    case 4: merge32(low, low + stride, low + 2 * stride, top, count, rows); break;
    default: __builtin_trap();
    }
}
