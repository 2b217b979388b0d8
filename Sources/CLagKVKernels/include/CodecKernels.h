#pragma once
#include <stddef.h>
#include <stdint.h>

/* The inner loops of ChunkStore's object format (FORMAT.md): byte planes, tiers and checksums. No policy, no allocation; every
   function may be called from any thread. Pointers need no alignment; what is read and what is written must not overlap. */

/* Rotates each of `count` little-endian numbers of `element` bytes (1, 2 or 4) left by one bit, so that the sign becomes
   bit 0, and spreads its bytes: byte element−1, which now begins with the exponent, of number i to top[i]; each lower byte
   p to low[p · stride + i]. */
void lagkv_planes_split(size_t element, const uint8_t *rows, size_t count, uint8_t *low, size_t stride, uint8_t *top);

/* The inverse of lagkv_planes_split: any planes give numbers, and splitting those gives the same planes. Rows may be on their way
   past the caches until lagkv_planes_merged: call it before another thread is told of them. */
void lagkv_planes_merge(size_t element, const uint8_t *low, size_t stride, const uint8_t *top, size_t count, uint8_t *rows);
void lagkv_planes_merged(void);

/* Tiers: two bits a value for the three most frequent values, and what is none of them again in the same way, four times.
   On bfloat16's exponents that takes 2.8 bits where their entropy is 2.7, and decodes without a branch or a bit position. */
enum { LAGKV_TIERS = 4, LAGKV_TIERS_GROUP = 64 };

/* How a plane may be stored: three symbols for each tier, the most frequent values first, and about how many bytes it
   would take. Both are exact for planes of up to 2,048 values, and of longer ones judged by a sample. */
typedef struct {
    uint8_t symbols[3 * LAGKV_TIERS];
    size_t likely_bytes;
} lagkv_tiers_t;

/* The room that `count` values take while they are coded or decoded: whole groups, and what a load may read beyond. */
static inline size_t lagkv_tiers_room(size_t count) {
    return (count + LAGKV_TIERS_GROUP - 1) / LAGKV_TIERS_GROUP * LAGKV_TIERS_GROUP + 64;
}

void lagkv_tiers_plan(const uint8_t *plane, size_t count, lagkv_tiers_t *plan);

/* Writes the tiers to `stored`, which has `room` bytes, with any plan's symbols. How many bytes they take; 0 if there is no room
   for them. The plane has lagkv_tiers_room(count) bytes, and what is in it is lost either way. */
size_t lagkv_tiers_encode(uint8_t *plane, size_t count, const lagkv_tiers_t *plan, uint8_t *stored, size_t room);

/* Whether `stored` is `count` values in tiers; they are in `plane` then. Any bytes may be given. The plane has
   lagkv_tiers_room(count) bytes, `work` twice that. Of the `ahead_bytes` that follow `stored` in memory as many come into the
   caches meanwhile as the values may take: what is decoded next. */
int lagkv_tiers_decode(const uint8_t *stored, size_t stored_bytes, size_t ahead_bytes, uint8_t *plane, size_t count, uint8_t *work);

/* The same without vector instructions, and without fetching ahead. For tests. */
size_t lagkv_tiers_encode_portable(uint8_t *plane, size_t count, const lagkv_tiers_t *plan, uint8_t *stored, size_t room);
int lagkv_tiers_decode_portable(const uint8_t *stored, size_t stored_bytes, size_t ahead_bytes, uint8_t *plane, size_t count,
                                uint8_t *work);

/* The CRC-32C (Castagnoli; as in iSCSI and ext4) of `count` bytes; `crc` is 0, or the CRC of the bytes before them. */
uint32_t lagkv_crc32c(uint32_t crc, const uint8_t *bytes, size_t count);

/* The same from the table alone, as on a machine without the instruction. For tests. */
uint32_t lagkv_crc32c_portable(uint32_t crc, const uint8_t *bytes, size_t count);
