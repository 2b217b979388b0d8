#include "CodecKernels.h"
#include <string.h>

/* Written as plain loops that the compiler turns into shuffles; on x86 it does so once for each of three levels of the
   instruction set, and the loader picks. Elsewhere (NEON) the baseline already has what they need. */
#if defined(__x86_64__)
#define EACH_LEVEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_LEVEL
#endif

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
    case 2: merge16(low, top, count, rows); break;
    case 4: merge32(low, low + stride, low + 2 * stride, top, count, rows); break;
    default: __builtin_trap();
    }
}
