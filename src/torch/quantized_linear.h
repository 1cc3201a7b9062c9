// The linear layer whose three GEMMs follow a recipe (torch/linear_passes.h), as an autograd function.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "torch/linear_passes.h"
#include "torch/random_context.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// Where the gradient of the weight goes.
enum class WeightGradient : std::uint8_t {
  kReturned,  // to autograd, in the type of the weight
  kInPlace,   // to the weight's own FP32 gradient, if there is one, within the GEMM where the device can: the first
              // micro-batch of a step (token offset 0) overwrites it, the others are added. Autograd gets none. For a
              // trainer that reads .grad after backward(), not for torch::autograd::grad.
};

class QuantizedLinear {
 public:
  // `name` decides whether the recipe keeps the layer in BF16; `number` (0, 1, .. in model order) names its random
  // streams. Throws InputError for a recipe that is not valid.
  QuantizedLinear(std::string name, std::uint32_t number, const Recipe& recipe, Stash stash = Stash::kPacked,
                  WeightGradient gradient = WeightGradient::kReturned, GemmPath path = GemmPath::kEmulated);

  // x [.., in] BF16, weight [out, in] FP32 or BF16: [.., out] BF16. Differentiable in both. The weight is quantized
  // once for all calls with the same seed and step while it is not modified.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const RandomContext& context);

  // What a function of several layers needs of this one: its place in the step, the prepared weight, and where the
  // weight's gradient is added (undefined: nowhere).
  LinearCall call(const RandomContext& context) const { return {recipe_, number_, context, stash_, path_}; }
  const WeightOperands& prepare(const at::Tensor& weight, const RandomContext& context);
  at::Tensor gradient_of(const at::Tensor& weight) const;

  const std::string& name() const { return name_; }
  const Recipe& recipe() const { return *recipe_; }

  // How often the weight was quantized (or cast) since construction.
  std::int64_t weight_preparations() const { return preparations_; }
  // Frees the prepared weight.
  void drop_weight() { prepared_.reset(); }

 private:
  struct PreparedWeight;
  std::string name_;
  std::uint32_t number_;
  std::shared_ptr<const Recipe> recipe_;
  Stash stash_;
  WeightGradient gradient_;
  GemmPath path_;
  std::shared_ptr<PreparedWeight> prepared_;
  std::int64_t preparations_ = 0;
};

// One call without a layer object: the autograd function itself. `operands` comes from prepare_weight(weight, call);
// where `gradient` is defined the weight's gradient is added to it instead of being returned.
at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const WeightOperands& operands,
                            const LinearCall& call, const at::Tensor& gradient = {});

}  // namespace ufp4
