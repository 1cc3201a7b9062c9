// The random Hadamard transform of numerics: y = x S H_n / sqrt(n).
#pragma once

#include <cstdint>
#include <span>

#include "ufp4/operand.h"

namespace ufp4 {

// 1 / sqrt(n) rounded to FP32. Throws InputError unless n is 16, 32, 64 or 128.
float hadamard_scale(int n);

// Transforms one run of `hadamard.size` values in place; does nothing for size 0. Signs that are not given are those of
// `seed`.
void apply_hadamard(std::span<float> run, const Hadamard& hadamard, std::uint64_t seed = 0);

}  // namespace ufp4
