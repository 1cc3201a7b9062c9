// The random Hadamard transform of a matrix that stays in BF16: beside an operand that is transformed and quantized, in
// a recipe that quantizes one operand of a product alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ufp4/operand.h"

namespace ufp4 {

// Each run of hadamard.size values along the rows of an operand [rows, columns], transformed in FP32 and rounded to
// BF16: [rows, columns padded with zeros to whole runs]. The bits are those of apply_hadamard on every device.
at::Tensor rotated(const at::Tensor& operand, const Hadamard& hadamard, std::uint64_t seed);

}  // namespace ufp4
