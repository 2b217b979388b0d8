/* What the kernels make of the same pseudo-random inputs, as checksums: the lines are the same on every processor whose
   kernels agree. Ends with a status other than 0 where they disagree with their own portable versions. */
#include "CLagKVKernels.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static uint32_t chance(uint32_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static int failures;

static void check(int holds, const char *what) {
    if (holds) return;
    failures++;
    fprintf(stderr, "kernels: %s\n", what);
}

enum { MOST = 128 * 256 };

static const size_t element_bytes[6] = {0, 4, 2, 2, 1, 1};

/* Numbers around 1, as keys and values are, with a few zeros, infinities and what is no number among them. */
static void fill_rows(uint8_t element, uint8_t *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = chance(1u << 31) << 1 | chance(2);
        switch (element) {
        case 1: bits = (bits & 0x807FFFFF) | (120 + chance(10)) << 23; break;
        case 2: bits = (bits & 0x83FF) | (10 + chance(10)) << 10; break;
        case 3: bits = (bits & 0x807F) | (120 + chance(10)) << 7; break;
        }
        if (chance(500) == 0) bits = chance(2) ? 0 : 0xFFFFFFFF;
        memcpy(rows + i * element_bytes[element], &bits, element_bytes[element]);
    }
}

static void scores(const struct lagkv_score_kernels *kernels, uint8_t element) {
    static uint8_t rows[2][4 * MOST], next[4 * MOST], lo[2][4 * 256], hi[2][4 * 256];
    static float deviations[2][128];
    static uint32_t offsets[128];
    uint32_t sum = 0;
    for (int round = 0; round < 60; round++) {
        uint32_t tokens = 2 + chance(127), dim = 1 + chance(256), kept = chance(tokens + 1), abnormal;
        size_t row_bytes = dim * element_bytes[element];
        for (int part = 0; part < 2; part++) {
            fill_rows(element, rows[part], tokens * dim);
            fill_rows(element, next, tokens * dim);
            kernels->bounds(element, next, tokens, dim, lo[part], hi[part]);
            kernels->deviations(element, rows[part], tokens, dim, lo[part], hi[part], next, row_bytes, deviations[part]);
            sum = lagkv_crc32c(sum, lo[part], row_bytes);
            sum = lagkv_crc32c(sum, hi[part], row_bytes);
        }
        abnormal = kernels->scores(deviations[0], deviations[1], tokens, 1.0f);
        kernels->select(deviations[0], tokens, kept, offsets);
        sum = lagkv_crc32c(sum, (const uint8_t *)&abnormal, sizeof abnormal);
        sum = lagkv_crc32c(sum, (const uint8_t *)deviations[0], tokens * sizeof(float));
        sum = lagkv_crc32c(sum, (const uint8_t *)offsets, kept * sizeof(uint32_t));
    }
    printf("scores of element type %d: %08x\n", element, sum);
}

static void planes(size_t element) {
    static uint8_t rows[4 * MOST], low[3 * MOST], top[MOST], back[4 * MOST];
    uint32_t sum = 0;
    for (int round = 0; round < 60; round++) {
        size_t count = chance(2000);
        for (size_t i = 0; i < count * element; i++) rows[i] = (uint8_t)chance(256);
        lagkv_planes_split(element, rows, count, low, MOST, top);
        lagkv_planes_merge(element, low, MOST, top, count, back);
        lagkv_planes_merged();
        check(memcmp(rows, back, count * element) == 0, "planes do not come back");
        sum = lagkv_crc32c(sum, top, count);
        for (size_t plane = 0; plane + 1 < element; plane++) sum = lagkv_crc32c(sum, low + plane * MOST, count);
        check(lagkv_crc32c(sum, rows, count) == lagkv_crc32c_portable(sum, rows, count), "a CRC differs from the table's");
    }
    printf("planes of %zu bytes: %08x\n", element, sum);
}

static void tiers(void) {
    enum { ROOM = 3 * 4096 };
    static uint8_t plane[ROOM], twin[ROOM], stored[ROOM], portable[ROOM], back[ROOM], forged[ROOM], work[2 * ROOM];
    uint32_t sum = 0, valid = 0;
    for (int round = 0; round < 4000; round++) {
        size_t count = chance(round % 40 ? 900 : 3000);
        uint32_t most = 1 + (uint32_t[]){0, 1, 2, 12, 30, 255}[chance(6)];
        for (size_t i = 0; i < count; i++) plane[i] = (uint8_t)(7 * chance(1 + chance(most)) + 3);
        memcpy(twin, plane, count);
        memcpy(back, plane, count);
        lagkv_tiers_t plan;
        lagkv_tiers_plan(plane, count, &plan);
        size_t bytes = lagkv_tiers_encode(plane, count, &plan, stored, ROOM);
        check(bytes == lagkv_tiers_encode_portable(twin, count, &plan, portable, ROOM) && memcmp(stored, portable, bytes) == 0,
              "tiers are coded otherwise than by the portable loop");
        check(lagkv_tiers_decode(stored, bytes, 0, plane, count, work) && memcmp(plane, back, count) == 0, "tiers do not come back");
        sum = lagkv_crc32c(sum, stored, bytes);

        memcpy(forged, stored, bytes);
        for (uint32_t changes = chance(4); changes > 0; changes--) forged[chance((uint32_t)bytes)] = (uint8_t)chance(256);
        int is_valid = lagkv_tiers_decode(forged, bytes, 0, plane, count, work);
        check(is_valid == lagkv_tiers_decode_portable(forged, bytes, 0, twin, count, work) &&
                  (!is_valid || memcmp(plane, twin, count) == 0),
              "forged tiers are decoded otherwise than by the portable loop");
        valid += (uint32_t)is_valid;
    }
    printf("tiers: %08x; forged ones that are valid: %u\n", sum, valid);
}

int main(void) {
    const struct lagkv_score_kernels *kernels = lagkv_score_kernels(0);
    fprintf(stderr, "kernels: %s\n", kernels->name);
    for (uint8_t element = 1; element <= 5; element++) scores(kernels, element);
    for (size_t element = 1; element <= 4; element *= 2) planes(element);
    tiers();
    return failures > 0;
}
