#pragma once

#include "CodecKernels.h"
#include "ScoreKernels.h"
