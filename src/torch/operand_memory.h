// The tensors of a quantized operand, and the pointers into them that kernels take.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <cstdint>

#include "torch/ops.h"
#include "ufp4/quantize.h"

namespace ufp4::ops {

// Symbolic where torch.compile traces.
struct SymShape {
  c10::SymInt rows;
  c10::SymInt columns;
};

// How a format stores the scale of a block: in so many elements of that type.
at::ScalarType scale_type(const BlockFormat& format);
std::int64_t scale_elements(const BlockFormat& format);

// The second-level scales of an operand [rows, columns]; nothing where the format has none.
SymShape outer_scales_shape(const SymShape& operand, const BlockFormat& format, OuterScale outer);

// The operand of a matrix [rows, columns], allocated where `options` say. The type of the codes says what it holds:
// Byte for codes and scales, Float8_e4m3fn for E4M3 numbers and the second-level scale, else for dequantized values
// alone.
PackedOperand allocate(const SymShape& matrix, const QuantizeSpec& spec, const at::TensorOptions& options,
                       at::ScalarType codes);

// Where a kernel writes what was allocated so.
Quantized destination(const PackedOperand& operand);

}  // namespace ufp4::ops
