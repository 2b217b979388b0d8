#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"), min_vector_width(512))), apply_to = function)
#define LAGKV_KERNELS lagkv_score_avx512
#define LAGKV_NAME "avx512"
#define LAGKV_FUSED 1          // has multiply-add
#define LAGKV_HALF 1           // converts f16 itself
#define LAGKV_LANES 16         // of f32 in a register
#define LAGKV_COLUMNS_AT_ONCE 4 // 4 columns of 64 bytes × 3 extrema × 1 register
#include "score_kernels.h"
#pragma clang attribute pop
#endif
