// The passes of a linear layer whose three GEMMs follow a recipe, on plain tensors: what the autograd functions are
// made of.
//
//   fprop  y  = Q(x)    Q(w)^T      contracted over `in`
//   dgrad  dx = Q(dy)   Q(w^T)^T    contracted over `out`
//   wgrad  dw = Q(dy^T) Q(x^T)^T    contracted over tokens
//
// Every GEMM multiplies its operands by the product that was chosen for it (torch/products.h): dequantized to BF16, or
// as the narrow numbers that they are. An operand that the recipe leaves in BF16 goes in as it is. The FP32 master
// weight is rounded to BF16 first, in every recipe, so that all recipes start from the values that the BF16 baseline
// multiplies.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "torch/operand.h"
#include "torch/products.h"
#include "torch/random_context.h"
#include "torch/source.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// What a linear keeps of x for wgrad where that quantizes it. It changes no bit of the result.
enum class Stash : std::uint8_t {
  kPacked,  // the operand, already quantized: codes and scales, 4.25 to 6 bits an element
  kNone,    // nothing of its own: x, or what it is made of, which the layer before keeps anyway, is quantized in the
            // backward pass
};

// Where a part of a layer stands in the whole one, for a layer that was cut.
struct FeatureOffsets {
  std::uint32_t in = 0;
  std::uint32_t out = 0;
};

// Throws InputError, in the name of `who`, unless x [.., in] and the weight [out, in] fit together on one device.
void check_shapes(std::string_view who, const at::Tensor& x, const at::Tensor& weight);

// One use of a layer in a step.
struct LinearCall {
  std::shared_ptr<const Recipe> recipe;
  std::shared_ptr<const ChosenProducts> products{};  // null: emulated
  std::uint32_t number = 0;                          // of the layer: names its random streams
  RandomContext context;
  Stash stash = Stash::kPacked;
  FeatureOffsets features{};

  // The operand's part of the recipe.
  const OperandSpec& spec(OperandRole role) const { return (*recipe)[gemm_of(role)].operand[index_of(role)]; }
  // What multiplies the operands of a GEMM on a device.
  const Product& product(Gemm gemm, const at::Device& device) const;
};

// The weight as the GEMMs of fprop and dgrad take it.
struct WeightOperands {
  QuantizedTensor fprop;  // [out, in padded]
  QuantizedTensor dgrad;  // [in, out padded]: the transpose
};

// A weight in one use of a layer. Operands that are not kept are made by the pass that needs them.
struct LinearWeight {
  at::Tensor values;  // [out, in], FP32 or BF16
  WeightOperands kept;

  QuantizedTensor fprop(const LinearCall& call) const;
  QuantizedTensor dgrad(const LinearCall& call) const;
};

struct FpropResult {
  at::Tensor y;          // [tokens, out] BF16
  QuantizedTensor kept;  // of x for wgrad: the packed operand, x itself, or nothing
};

// Whether both GEMMs that take the weight take it quantized.
bool quantizes_weight(const Recipe& recipe);

// Both operands of a weight [out, in], FP32 or BF16, made in one read; of the call, the tokens play no part.
WeightOperands prepare_weight(const at::Tensor& weight, const LinearCall& call);

// x [tokens, in]. `keep`: whether what fprop makes of x is to be kept for wgrad.
FpropResult fprop(const Source& x, const LinearWeight& weight, const LinearCall& call, bool keep);

// Q(dy) of dgrad and Q(dy^T) of wgrad, made in one read if both are quantized; not given where not wanted.
struct DyOperands {
  QuantizedTensor dgrad;
  QuantizedTensor wgrad;
};
DyOperands quantize_dy(const Source& dy, const LinearCall& call, bool want_dx, bool want_dw);

// Q(x^T) of wgrad from what fprop kept, or from x: [in, tokens padded].
QuantizedTensor wgrad_x(const QuantizedTensor& kept, const LinearCall& call);
QuantizedTensor wgrad_x(const Source& x, const LinearCall& call);

// dx [tokens, in] BF16.
at::Tensor dgrad(const QuantizedTensor& dy, const LinearWeight& weight, const LinearCall& call);

// dw [out, in] of type `type`, Float or BFloat16: the FP32 sums, rounded once where it is BFloat16.
at::Tensor wgrad(const QuantizedTensor& dy, const QuantizedTensor& x, const LinearCall& call, at::ScalarType type);

// Adds that to the FP32 gradient of `leaf`, within the product where the device can. The first micro-batch of a step
// makes a new gradient.
void wgrad_into(const at::Tensor& leaf, const QuantizedTensor& dy, const QuantizedTensor& x, const LinearCall& call);

}  // namespace ufp4
