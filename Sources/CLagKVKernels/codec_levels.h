#pragma once

/* Plain loops that the compiler turns into vector instructions; on x86 it does so once for each of three levels of the
   instruction set, and the loader picks. Elsewhere (NEON) the baseline already has what they need. */
#if defined(__x86_64__)
#define EACH_LEVEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_LEVEL
#endif
