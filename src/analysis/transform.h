// The random Hadamard transform of many values, in SIMD: the bits of apply_hadamard (numerics/hadamard.h).
#pragma once

#include <span>

#include "ufp4/quantize.h"

namespace ufp4::analysis {

// Transforms each run of hadamard.size values, in place; whole runs. The signs must be given. Nothing happens without a
// transform.
void transform_runs(std::span<float> values, const Hadamard& hadamard);

}  // namespace ufp4::analysis
