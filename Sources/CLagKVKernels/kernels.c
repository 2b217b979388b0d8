#include "CLagKVKernels.h"
