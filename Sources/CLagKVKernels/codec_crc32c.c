#include "CodecKernels.h"
#include <string.h>

/* The CRC is taken bit-reversed: the polynomial's coefficient of x^31 is bit 0. */
#define POLYNOMIAL 0x82F63B78u

/* tables[k][b]: the CRC of byte b followed by k zero bytes, for eight bytes at a time. */
static uint32_t tables[8][256];

/* The instruction takes 8 bytes, waits three cycles for its result, and can start every cycle. So three runs of bytes are
   summed at once and then joined: zeros(n)(a) ^ b is the CRC of A followed by n bytes B. The lengths of the runs are
   powers of two. Worked example: 14,336 bytes are two rounds of 3 × 2,048, two of 3 × 256, and 512 at the end. */
enum { LONG_RUN_SHIFT = 11, SHORT_RUN_SHIFT = 8 };

/* zeros[j][b]: what byte j of a CRC, of value b, becomes after a run of zero bytes. */
static uint32_t long_zeros[4][256];
static uint32_t short_zeros[4][256];

static uint32_t apply(const uint32_t images[32], uint32_t crc) {
    uint32_t sum = 0;
    for (int bit = 0; crc != 0; bit++, crc >>= 1)
        if (crc & 1) sum ^= images[bit];
    return sum;
}

/* A CRC is linear in its bits: where each bit goes under 2^shift zero bytes says where everything goes. */
static void make_zeros(uint32_t zeros[4][256], int shift) {
    uint32_t images[32], squared[32];
    for (int bit = 0; bit < 32; bit++) {
        uint32_t crc = 1u << bit;
        images[bit] = tables[0][crc & 0xFF] ^ crc >> 8;
    }
    for (; shift > 0; shift--) {
        for (int bit = 0; bit < 32; bit++) squared[bit] = apply(images, images[bit]);
        memcpy(images, squared, sizeof images);
    }
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t value = 0; value < 256; value++) zeros[byte][value] = apply(images, value << 8 * byte);
}

/* Before main, so that no thread can find the tables half made. It takes a few microseconds. */
__attribute__((constructor)) static void make_tables(void) {
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t crc = value;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][value] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int value = 0; value < 256; value++)
            tables[k][value] = tables[0][tables[k - 1][value] & 0xFF] ^ tables[k - 1][value] >> 8;
    make_zeros(long_zeros, LONG_RUN_SHIFT);
    make_zeros(short_zeros, SHORT_RUN_SHIFT);
}

static uint64_t load64(const uint8_t *bytes) {
    uint64_t x;
    memcpy(&x, bytes, 8);
    return x;
}

uint32_t lagkv_crc32c_portable(uint32_t crc, const uint8_t *bytes, size_t count) {
    crc = ~crc;
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t x = load64(bytes) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++) crc ^= tables[7 - k][x >> 8 * k & 0xFF];
    }
    for (; count > 0; bytes++, count--) crc = tables[0][(crc ^ *bytes) & 0xFF] ^ crc >> 8;
    return ~crc;
}

#if defined(__x86_64__)
#include <immintrin.h>
#define WITH_CRC __attribute__((target("sse4.2")))
#define STEP8(crc, word) _mm_crc32_u64(crc, word)
#define STEP1(crc, byte) _mm_crc32_u8(crc, byte)
static int has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#define WITH_CRC __attribute__((target("crc")))
#define STEP8(crc, word) __crc32cd((uint32_t)(crc), word)
#define STEP1(crc, byte) __crc32cb(crc, byte)
static int has_instruction(void) { return (getauxval(AT_HWCAP) & 1 << 7) != 0; /* HWCAP_CRC32 */ }
#endif

#ifdef WITH_CRC
static uint32_t after_zeros(uint32_t zeros[4][256], uint32_t crc) {
    return zeros[0][crc & 0xFF] ^ zeros[1][crc >> 8 & 0xFF] ^ zeros[2][crc >> 16 & 0xFF] ^ zeros[3][crc >> 24];
}

/* Three runs of 2^shift bytes. What is summed was most often just read from disk, and three short streams at once are more than
   the processor's own prefetching follows: the next three runs are fetched meanwhile. */
WITH_CRC static inline uint32_t three_runs(uint32_t crc, const uint8_t *bytes, int shift, uint32_t zeros[4][256]) {
    const size_t run = (size_t)1 << shift;
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < run; i += 8) {
        if (i % 64 == 0)
            for (size_t next = 3; next < 6; next++) __builtin_prefetch(bytes + next * run + i);
        a = STEP8(a, load64(bytes + i));
        b = STEP8(b, load64(bytes + run + i));
        c = STEP8(c, load64(bytes + 2 * run + i));
    }
    return after_zeros(zeros, after_zeros(zeros, (uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

WITH_CRC static uint32_t crc32c_instruction(uint32_t crc, const uint8_t *bytes, size_t count) {
    const size_t long_round = (size_t)3 << LONG_RUN_SHIFT, short_round = (size_t)3 << SHORT_RUN_SHIFT;
    crc = ~crc;
    for (; count >= long_round; bytes += long_round, count -= long_round)
        crc = three_runs(crc, bytes, LONG_RUN_SHIFT, long_zeros);
    for (; count >= short_round; bytes += short_round, count -= short_round)
        crc = three_runs(crc, bytes, SHORT_RUN_SHIFT, short_zeros);
    for (; count >= 8; bytes += 8, count -= 8) crc = (uint32_t)STEP8(crc, load64(bytes));
    for (; count > 0; bytes++, count--) crc = STEP1(crc, *bytes);
    return ~crc;
}
#endif

uint32_t lagkv_crc32c(uint32_t crc, const uint8_t *bytes, size_t count) {
#ifdef WITH_CRC
    if (has_instruction()) return crc32c_instruction(crc, bytes, count);
#endif
    return lagkv_crc32c_portable(crc, bytes, count);
}
