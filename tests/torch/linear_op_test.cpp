// torch.ops.ufp4.linear against the layer of the trainer: one step of training both ways, the same bits.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "test_devices.h"
#include "torch/linear_op.h"
#include "torch/quantized_linear.h"
#include "ufp4/recipe.h"

namespace ufp4 {
namespace {

constexpr std::int64_t kTokens = 48;

struct Weights {
  at::Tensor up;    // [96, 64]
  at::Tensor down;  // [64, 96]
};

Weights initial_weights() {
  at::manual_seed(1);
  return {(at::randn({96, 64}) / 8).set_requires_grad(true), (at::randn({64, 96}) / 8).set_requires_grad(true)};
}

RandomContext context_of(std::int64_t micro_batch) {
  RandomContext context;
  context.seed = 7;
  context.step = 3;
  context.micro_batch = static_cast<std::uint32_t>(micro_batch);
  context.token_offset = static_cast<std::uint32_t>(micro_batch * kTokens);
  return context;
}

// One step of AdamW over some micro-batches, with `layer(number, x, weight, micro batch)` as the linear.
template <typename Layer>
Weights train_one_step(std::int64_t micro_batches, const Layer& layer) {
  Weights weights = initial_weights();
  at::manual_seed(2);
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    const at::Tensor x = at::randn({kTokens, 64}).to(at::kBFloat16);
    const at::Tensor hidden = at::silu(layer(0, x, weights.up, i));
    const at::Tensor y = layer(1, hidden, weights.down, i);
    y.to(at::kFloat).square().mean().backward();
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parameters{weights.up.detach(), weights.down.detach()};
  std::vector<at::Tensor> first, second, steps;
  for (const at::Tensor& parameter : parameters) {
    first.push_back(at::zeros_like(parameter));
    second.push_back(at::zeros_like(parameter));
    steps.push_back(at::ones({}, at::kFloat));
  }
  at::_fused_adamw_(parameters, {weights.up.grad(), weights.down.grad()}, first, second, {}, steps, 1e-3, 0.9, 0.95,
                    0.1, 1e-8, false, false);
  return weights;
}

struct Case {
  std::string name;
  std::string recipe;
};

class TrainerAndOperator : public testing::TestWithParam<Case> {
 protected:
  Weights by_trainer(std::int64_t micro_batches, WeightGradient gradient) {
    const Recipe recipe = *ops::shared_recipe(GetParam().recipe);
    constexpr std::array<std::int64_t, 2> kSides{64, 96};
    const auto products = std::make_shared<const ChosenProducts>(
        choose_products(recipe, at::kCPU, kSides, ProductChoice::kFastest));  // as the operator takes them
    std::vector<QuantizedLinear> layers;
    layers.emplace_back("up", 0, recipe, LinearOptions{.gradient = gradient, .products = products});
    layers.emplace_back("down", 1, recipe, LinearOptions{.gradient = gradient, .products = products});
    return train_one_step(micro_batches, [&](std::size_t number, const at::Tensor& x, const at::Tensor& weight,
                                             std::int64_t micro_batch) {
      return layers[number].forward(x, weight, context_of(micro_batch));
    });
  }

  Weights by_operator(std::int64_t micro_batches) {
    const at::Tensor step = at::full({1}, 3, at::kInt);
    return train_one_step(micro_batches, [&](std::size_t number, const at::Tensor& x, const at::Tensor& weight,
                                             std::int64_t micro_batch) {
      ops::LinearPlace place;
      place.seed = 7;
      place.step_tensor = step;
      place.layer_tensor = at::full({1}, static_cast<std::int64_t>(number), at::kInt);
      place.token_tensor = at::full({1}, micro_batch * kTokens, at::kInt);
      return ops::linear_op(x, weight, GetParam().recipe, place, {});
    });
  }
};

void expect_equal(const Weights& a, const Weights& b) {
  EXPECT_TRUE(at::equal(a.up.grad(), b.up.grad()));
  EXPECT_TRUE(at::equal(a.down.grad(), b.down.grad()));
  EXPECT_TRUE(at::equal(a.up, b.up));
  EXPECT_TRUE(at::equal(a.down, b.down));
}

TEST_P(TrainerAndOperator, OneStepHasTheSameBits) {
  const Weights python = by_operator(1);
  expect_equal(by_trainer(1, WeightGradient::kInPlace), python);
  EXPECT_FALSE(at::equal(python.up, initial_weights().up));
}

// The trainer adds the second micro-batch within its product, where sums are rounded in another order; returned to
// autograd, as an operator's are, its gradients have the same bits.
TEST_P(TrainerAndOperator, MicroBatchesHaveTheSameBits) {
  const Weights python = by_operator(2);
  expect_equal(by_trainer(2, WeightGradient::kReturned), python);
  const Weights in_place = by_trainer(2, WeightGradient::kInPlace);
  EXPECT_TRUE(at::allclose(in_place.up.grad(), python.up.grad(), 1e-4, 1e-6));
}

TEST(SharedRecipe, IsReadOnceForAText) {
  const std::string text = "*.*.format = e1m2; *.hadamard = 32";
  const auto recipe = ops::shared_recipe(text);
  EXPECT_EQ(ops::shared_recipe(std::string(text)), recipe);
  EXPECT_NE(ops::shared_recipe("*.*.format = e1m2; *.hadamard = 16"), recipe);
  EXPECT_EQ((*recipe)[Gemm::kFprop].operand[0].hadamard.size, 32);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, TrainerAndOperator,
    testing::Values(Case{"ufp4", "*.*.format = e1m2; *.hadamard = 16; *.dy.rounding = sr"},
                    Case{"ufp4_p2", "*.*.format = int4_p2; *.hadamard = 16; *.dy.rounding = sr"},
                    Case{"ufp4_i4", "*.*.format = int4_i4; *.hadamard = 16; *.dy.rounding = sr; dgrad.*.outer = row"},
                    Case{"nvfp4", "*.*.format = nvfp4; wgrad.hadamard = 16; *.dy.rounding = sr; *.w.rounding = sr"},
                    Case{"dgrad_alone", "dgrad.*.format = e1m2; dgrad.dy.rounding = sr"}, Case{"bf16", ""}),
    [](const auto& of) { return of.param.name; });

// The gradient that a sum over tokens sends back has rows that all lie at one place.
TEST(LinearOperator, ABroadcastGradientIsThatOfItsCopy) {
  for (const at::Device& device : test_devices()) {
    const auto gradients = [&](bool broadcast) {
      at::manual_seed(5);
      const at::Tensor x = at::randn({48, 64}).to(at::kBFloat16).to(device).set_requires_grad(true);
      const at::Tensor w = (at::randn({96, 64}) / 8).to(device).set_requires_grad(true);
      ops::LinearPlace place;
      place.seed = 7;
      place.step = 1;
      place.layer = 0;
      const at::Tensor y = ops::linear_op(x, w, "ufp4", place, {});
      at::Tensor dy = at::randn({1, 96}).to(at::kBFloat16).to(device).expand({48, 96});
      y.backward(broadcast ? dy : dy.contiguous());
      return std::pair{x.grad(), w.grad()};
    };
    const auto [dx, dw] = gradients(true);
    const auto [expected_dx, expected_dw] = gradients(false);
    EXPECT_TRUE(at::equal(dx, expected_dx)) << device.str();
    EXPECT_TRUE(at::equal(dw, expected_dw)) << device.str();
    EXPECT_TRUE(dx.isfinite().all().item<bool>()) << device.str();
  }
}

}  // namespace
}  // namespace ufp4
