#pragma once

#include "ScoreKernels.h"
