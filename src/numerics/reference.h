// The scalar reference of every operation, line by line after docs/numerics.md. It is the definition: simple, slow and
// without any cleverness. Arguments are as Backend checked them.
#pragma once

#include <cstdint>
#include <span>

#include "ufp4/quantize.h"

namespace ufp4::reference {

// The scale of a block and the codes of its elements.
struct Block {
  float scale = 0;
  std::array<std::uint8_t, 128> codes{};  // one code (0..15) an element
};

// Quantizes one block of (transformed) FP32 values. `n16` holds the 16-bit random number of each element for
// stochastic rounding and is empty for nearest.
Block quantize_block(std::span<const float> values, const ElementFormat& element, std::span<const std::uint32_t> n16);

// One row of the operand: transform, blocks, codes. `row` is the operand's row, before the offset.
void quantize(const ConstMatrix& in, const QuantizeTask& task);

void dequantize(const ConstQuantized& in, void* out, DType out_dtype);

}  // namespace ufp4::reference
