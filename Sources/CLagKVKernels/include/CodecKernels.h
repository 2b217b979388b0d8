#pragma once
#include <stddef.h>
#include <stdint.h>

/* The inner loops of ChunkStore's object format (FORMAT.md): byte planes and checksums. No policy, no allocation; every
   function may be called from any thread. Pointers need no alignment; what is read and what is written must not overlap. */

/* Rotates each of `count` little-endian numbers of `element` bytes (1, 2 or 4) left by one bit, so that the sign becomes
   bit 0, and spreads its bytes: byte element−1, which now begins with the exponent, of number i to top[i]; each lower byte
   p to low[p · stride + i]. */
void lagkv_planes_split(size_t element, const uint8_t *rows, size_t count, uint8_t *low, size_t stride, uint8_t *top);

/* The inverse of lagkv_planes_split: any planes give numbers, and splitting those gives the same planes. */
void lagkv_planes_merge(size_t element, const uint8_t *low, size_t stride, const uint8_t *top, size_t count, uint8_t *rows);

/* The CRC-32C (Castagnoli; as in iSCSI and ext4) of `count` bytes; `crc` is 0, or the CRC of the bytes before them. */
uint32_t lagkv_crc32c(uint32_t crc, const uint8_t *bytes, size_t count);

/* The same from the table alone, as on a machine without the instruction. For tests. */
uint32_t lagkv_crc32c_portable(uint32_t crc, const uint8_t *bytes, size_t count);
