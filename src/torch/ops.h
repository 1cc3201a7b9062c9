// The operators torch.ops.ufp4.*, callable from C++ through torch's dispatcher. Registered once in ops.cpp for CPU,
// CUDA and Meta tensors (shapes alone, for torch.compile).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "ufp4/quantize.h"

namespace ufp4::ops {

// How to quantize one operand: OperandRecipe and GemmRecipe, with the places in the random counter.
struct OperandArgs {
  const BlockFormat* format = nullptr;
  int block = 0;
  int hadamard = 0;
  Rounding rounding = Rounding::kNearest;
  std::uint32_t stream = 0;
  OuterScale outer = OuterScale::kTensor;
  float tau = 0;
};

// What the operands of one tensor share. The offsets place the tensor (as stored) inside the whole one.
struct RandomArgs {
  std::uint64_t hadamard_seed = 0;
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t row_offset = 0;
  std::uint32_t column_offset = 0;
  std::optional<at::Tensor> step_tensor = std::nullopt;  // one int32 on the device, which stands for `step`
};

// A quantized operand [rows, columns].
struct PackedOperand {
  at::Tensor codes;  // U8 [rows, columns / 2]
  // F32 [rows, columns / block], or U8 [rows, columns / block * bytes] where the format stores its scales in bytes.
  at::Tensor scales;
  at::Tensor outer_scales;  // F32, two-dimensional: those of the second level; empty where the format has none
};

// The operand of x [m, n] along `axis`.
PackedOperand quantize(const at::Tensor& x, const OperandArgs& args, Axis axis, const RandomArgs& random);

// The same operand dequantized to BF16 [rows, columns].
at::Tensor quantize_dequantize(const at::Tensor& x, const OperandArgs& args, Axis axis, const RandomArgs& random);

// Both orientations from one read: the row-wise operand dequantized to BF16, and the column-wise operand packed or,
// with `packed` false, dequantized to BF16 (in `codes`, and no scales).
struct BothOrientations {
  at::Tensor row;
  PackedOperand column;
};
BothOrientations quantize_both(const at::Tensor& x, const OperandArgs& row, const OperandArgs& column,
                               const RandomArgs& random, bool packed);

// level * scale * outer scale in BF16; of `args` it reads format, block and outer.
at::Tensor dequantize(const PackedOperand& operand, const OperandArgs& args);

}  // namespace ufp4::ops
