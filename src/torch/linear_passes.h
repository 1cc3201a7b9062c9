// The passes of a linear layer whose three GEMMs follow a recipe, on plain tensors: what the autograd functions are
// made of.
//
//   fprop  y  = Q(x)    Q(w)^T      contracted over `in`
//   dgrad  dx = Q(dy)   Q(w^T)^T    contracted over `out`
//   wgrad  dw = Q(dy^T) Q(x^T)^T    contracted over tokens
//
// Operands are quantized, dequantized to BF16 and multiplied with FP32 accumulation ("emulated"), or, where both are
// int4_p2, multiplied as the E4M3 numbers that they are ("fp8"); an operand that the recipe leaves in BF16 goes in as
// it is. The FP32 master weight is rounded to BF16 first, in every recipe, so that all recipes start from the values
// that the BF16 baseline multiplies.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "torch/gemm.h"
#include "torch/operand.h"
#include "torch/random_context.h"
#include "torch/source.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// The weight as the GEMMs of fprop and dgrad take it.
struct WeightOperands {
  GemmOperand fprop;  // [out, in padded]
  GemmOperand dgrad;  // [in, out padded]: the transpose
};

// What a linear keeps of x for wgrad where that quantizes it. It changes no bit of the result.
enum class Stash : std::uint8_t {
  kPacked,  // the operand, already quantized: codes and scales, 4.25 to 6 bits an element
  kNone,    // nothing of its own: x, or what it is made of, which the layer before keeps anyway, is quantized in the
            // backward pass
};

// What multiplies quantized operands.
enum class GemmPath : std::uint8_t {
  kEmulated,  // BF16 tensor cores, whatever the format
  kFp8,       // FP8 tensor cores (has_fp8) where both operands of a GEMM are E4M3 numbers under one scale: int4_p2 with
              // a second-level scale for the tensor; else emulated
};

// The path of one GEMM of a recipe.
GemmPath path_of(const GemmRecipe& gemm, GemmPath wanted);

// One use of a layer in a step.
struct LinearCall {
  std::shared_ptr<const Recipe> recipe;
  std::uint32_t number = 0;  // of the layer: names its random streams
  RandomContext context;
  Stash stash = Stash::kPacked;
  GemmPath path = GemmPath::kEmulated;
};

// A weight in one use of a layer. Operands that are not kept are made by the pass that needs them.
struct LinearWeight {
  at::Tensor values;  // [out, in], FP32 or BF16
  WeightOperands kept;

  GemmOperand fprop(const LinearCall& call) const;
  GemmOperand dgrad(const LinearCall& call) const;
};

// What fprop keeps of x for wgrad: the packed operand, x itself (in `codes`), or nothing.
using KeptInput = MadeOperand;

struct FpropResult {
  at::Tensor y;  // [tokens, out] BF16
  KeptInput kept;
};

// Whether both GEMMs that take the weight take it quantized.
bool quantizes_weight(const Recipe& recipe);

// Both operands of a weight [out, in], FP32 or BF16, made in one read; of the call, the token offset plays no part.
WeightOperands prepare_weight(const at::Tensor& weight, const LinearCall& call);

// x [tokens, in]. `keep`: whether what fprop makes of x is to be kept for wgrad.
FpropResult fprop(const Source& x, const LinearWeight& weight, const LinearCall& call, bool keep);

// Q(dy) of dgrad and Q(dy^T) of wgrad, made in one read if both are quantized; empty where not wanted.
struct DyOperands {
  GemmOperand dgrad;
  GemmOperand wgrad;
};
DyOperands quantize_dy(const Source& dy, const LinearCall& call, bool want_dx, bool want_dw);

// Q(x^T) of wgrad from what fprop kept, or from x: [in, tokens padded].
GemmOperand wgrad_x(const KeptInput& kept, const LinearCall& call);
GemmOperand wgrad_x(const Source& x, const LinearCall& call);

// dx [tokens, in] BF16.
at::Tensor dgrad(const GemmOperand& dy, const LinearWeight& weight, const LinearCall& call);

// dw [out, in] FP32. Where `leaf` is defined it is added to the leaf's FP32 gradient instead, within the GEMM where the
// device can, and the result is undefined: the first micro-batch of a step (token offset 0) makes a new gradient.
at::Tensor wgrad(const at::Tensor& leaf, const GemmOperand& dy, const GemmOperand& x, const LinearCall& call);

}  // namespace ufp4
