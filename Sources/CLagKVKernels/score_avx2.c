#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#define LAGKV_KERNELS lagkv_score_avx2
#define LAGKV_NAME "avx2"
#define LAGKV_FUSED 1
#define LAGKV_HALF 1
#define LAGKV_LANES 8
#define LAGKV_COLUMNS_AT_ONCE 2
#include "score_kernels.h"
#pragma clang attribute pop
#endif
