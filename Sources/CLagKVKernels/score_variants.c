#include "ScoreKernels.h"

#if defined(__x86_64__)

extern const struct lagkv_score_kernels lagkv_score_avx512, lagkv_score_avx2, lagkv_score_baseline;

const struct lagkv_score_kernels *lagkv_score_kernels(size_t index) {
    const struct lagkv_score_kernels *runnable[3];
    size_t count = 0;
    if (__builtin_cpu_supports("x86-64-v4")) runnable[count++] = &lagkv_score_avx512;
    if (__builtin_cpu_supports("x86-64-v3")) runnable[count++] = &lagkv_score_avx2;
    runnable[count++] = &lagkv_score_baseline;
    return index < count ? runnable[index] : NULL;
}

#elif defined(__aarch64__)

extern const struct lagkv_score_kernels lagkv_score_neon;

const struct lagkv_score_kernels *lagkv_score_kernels(size_t index) { return index == 0 ? &lagkv_score_neon : NULL; }

#else

extern const struct lagkv_score_kernels lagkv_score_baseline;

const struct lagkv_score_kernels *lagkv_score_kernels(size_t index) { return index == 0 ? &lagkv_score_baseline : NULL; }

#endif
