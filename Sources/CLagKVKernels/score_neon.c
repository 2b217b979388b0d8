#if defined(__aarch64__)
#define LAGKV_KERNELS lagkv_score_neon
#define LAGKV_NAME "neon"
#define LAGKV_FUSED 1
#define LAGKV_HALF 1
#define LAGKV_LANES 4
#define LAGKV_COLUMNS_AT_ONCE 2
#include "score_kernels.h"
#endif
