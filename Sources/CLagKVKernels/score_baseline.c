// Any processor: SSE2 on x86-64. Without multiply-add its scores differ from the others' in the last bits.
#if !defined(__aarch64__)
#define LAGKV_KERNELS lagkv_score_baseline
#define LAGKV_NAME "baseline"
#define LAGKV_FUSED 0
#define LAGKV_HALF 0
#define LAGKV_LANES 4
#define LAGKV_COLUMNS_AT_ONCE 1
#include "score_kernels.h"
#endif
