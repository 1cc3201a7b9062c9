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
  kInPlace,   // to .grad of an FP32 leaf (wgrad): the first micro-batch of a step makes it, the others are added.
              // Autograd gets none. For a trainer that reads .grad after backward(), not for torch::autograd::grad.
};

// How long the quantized operands of the weight live. It changes no bit where the weight does not change between a
// forward pass and its backward pass.
enum class WeightLife : std::uint8_t {
  kStep,  // made in one read by the first forward pass with a seed and step, and kept for the others
  kPass,  // made by every pass that needs one. For one micro-batch a step: a second read of the weight, and no memory.
          // What is not quantized in both orientations is kept for the step nevertheless.
};

struct LinearOptions {
  Stash stash = Stash::kPacked;
  WeightGradient gradient = WeightGradient::kReturned;
  WeightLife life = WeightLife::kStep;
  std::shared_ptr<const ChosenProducts> products{};  // null: emulated
};

class QuantizedLinear {
 public:
  // `name` decides whether the recipe keeps the layer in BF16; `number` (0, 1, .. in model order) names its random
  // streams. Throws InputError for a recipe that is not valid.
  QuantizedLinear(std::string name, std::uint32_t number, const Recipe& recipe, const LinearOptions& options = {});

  // x [.., in] BF16, weight [out, in] FP32 or BF16: [.., out] BF16. Differentiable in both. With WeightLife::kStep the
  // weight is quantized once for all calls with the same seed and step while it is not modified.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const RandomContext& context);

  // What a function of several layers needs of this one: its place in the step, the weight, and the leaf to whose
  // gradient that of the weight is added (undefined: it is returned).
  LinearCall call(const RandomContext& context) const;
  LinearWeight use(const at::Tensor& weight, const RandomContext& context);
  at::Tensor gradient_leaf(const at::Tensor& weight) const;

  const std::string& name() const { return name_; }
  const Recipe& recipe() const { return *recipe_; }

  // How often the weight was quantized (or cast) since construction.
  std::int64_t weight_preparations() const { return preparations_; }

 private:
  struct PreparedWeight;
  std::string name_;
  std::uint32_t number_;
  std::shared_ptr<const Recipe> recipe_;
  LinearOptions options_;
  std::shared_ptr<PreparedWeight> prepared_;
  std::int64_t preparations_ = 0;
};

// One call without a layer object: the autograd function itself. `use` is what the passes take for the weight; where
// `gradient_leaf` is defined the weight's gradient is added to that of this leaf instead of being returned.
at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const LinearWeight& use,
                            const LinearCall& call, const at::Tensor& gradient_leaf = {});

}  // namespace ufp4
