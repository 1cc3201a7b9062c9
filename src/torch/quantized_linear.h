// The linear layer whose three GEMMs follow a recipe, as an autograd function:
//
//   fprop  y  = Q(x)    Q(w)^T      contracted over `in`
//   dgrad  dx = Q(dy)   Q(w^T)^T    contracted over `out`
//   wgrad  dw = Q(dy^T) Q(x^T)^T    contracted over tokens
//
// Operands are quantized, dequantized to BF16 and multiplied with FP32 accumulation ("emulated"); an operand that the
// recipe leaves in BF16 goes in as it is. The FP32 master weight is rounded to BF16 first, in every recipe, so that all
// recipes start from the values that the BF16 baseline multiplies. dw is rounded to BF16 as the result of any BF16 GEMM
// and returned in FP32, the type of the weight: autograd adds it into the FP32 gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "torch/random_context.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// The weight as the GEMMs of fprop and dgrad take it, both made in one read.
struct WeightOperands {
  at::Tensor fprop;  // BF16 [out, in padded]
  at::Tensor dgrad;  // BF16 [in, out padded]: the transpose
};

// What the backward pass of a linear keeps of x. The packed stash changes no bit of the result.
enum class Stash : std::uint8_t {
  kPacked,  // the wgrad operand, already quantized: codes and scales, 6 bits an element with blocks of 16
  kBf16,    // x itself; it is quantized in the backward pass
};

class QuantizedLinear {
 public:
  // `name` decides whether the recipe keeps the layer in BF16; `number` (0, 1, .. in model order) names its random
  // streams. Throws InputError for a recipe that is not valid.
  QuantizedLinear(std::string name, std::uint32_t number, const Recipe& recipe, Stash stash = Stash::kPacked);

  // x [.., in] BF16, weight [out, in] FP32 or BF16: [.., out] BF16. Differentiable in both. The weight is quantized
  // once for all calls with the same seed and step while it is not modified.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const RandomContext& context);

  const std::string& name() const { return name_; }
  const Recipe& recipe() const { return *recipe_; }

  // How often the weight was quantized (or cast) since construction.
  std::int64_t weight_preparations() const { return preparations_; }
  // Frees the prepared weight.
  void drop_weight() { prepared_.reset(); }

 private:
  struct PreparedWeight;
  const WeightOperands& prepare(const at::Tensor& weight, const RandomContext& context);

  std::string name_;
  std::uint32_t number_;
  std::shared_ptr<const Recipe> recipe_;
  Stash stash_;
  std::shared_ptr<PreparedWeight> prepared_;
  std::int64_t preparations_ = 0;
};

// The weight of layer `number` quantized for fprop and dgrad.
WeightOperands prepare_weight(const at::Tensor& weight, const Recipe& recipe, std::uint32_t number,
                              const RandomContext& context);

// One call without a layer object: the autograd function itself. `operands` comes from prepare_weight(weight, ..).
at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const WeightOperands& operands,
                            const std::shared_ptr<const Recipe>& recipe, std::uint32_t number,
                            const RandomContext& context, Stash stash);

}  // namespace ufp4
