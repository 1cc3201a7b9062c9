// The quantized linear against an independent composition of the scalar reference and torch's matrix product.
#include "torch/quantized_linear.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <span>

#include "message_of.h"
#include "numerics/hadamard.h"
#include "numerics/reference.h"
#include "test_devices.h"
#include "torch/products.h"
#include "ufp4/error.h"
#include "ufp4/format.h"
#include "ufp4_recipe.h"

namespace ufp4 {
namespace {

constexpr std::uint32_t kLayer = 3;

Recipe make_recipe(std::initializer_list<std::pair<const char*, std::string_view>> settings) {
  Recipe recipe;
  for (const auto& [key, value] : settings) set(recipe, key, value);
  validate(recipe);
  return recipe;
}

struct NamedRecipe {
  std::string_view name;
  Recipe recipe;
};

std::vector<NamedRecipe> recipes() {
  std::vector<NamedRecipe> list{
      {"bf16", Recipe{}},
      {"ufp4", ufp4_recipe()},
      {"full", make_recipe({{"*.*.format", "int4_full"}, {"*.hadamard", "16"}, {"*.dy.rounding", "sr"}})},
      {"e2m1", make_recipe({{"*.*.format", "e2m1"}, {"wgrad.hadamard", "16"}, {"*.dy.rounding", "sr"}})},
      {"rht_fprop", make_recipe({{"*.*.format", "e1m2"}, {"fprop.hadamard", "32"}})},
      {"rht_dgrad", make_recipe({{"*.*.format", "e1m2"}, {"dgrad.hadamard", "128"}})},
      {"sr_everywhere", make_recipe({{"*.*.format", "e2m1_max4"}, {"*.*.rounding", "sr"}})},
      {"max3", make_recipe({{"*.*.format", "e2m1_max3"}, {"wgrad.x.format", "e2m1_max2"}})},
      {"bf16_dy", make_recipe({{"*.x.format", "e1m2"}, {"*.w.format", "e2m1"}})},
      {"only_dgrad_dy", make_recipe({{"dgrad.dy.format", "e1m2"}})},
      {"only_wgrad_x", make_recipe({{"wgrad.x.format", "e1m2"}, {"wgrad.x.rounding", "sr"}})},
      {"only_fprop_w", make_recipe({{"fprop.w.format", "e1m2"}})},
      {"blocks", make_recipe({{"*.*.format", "e1m2"}, {"*.x.block", "64"}, {"*.w.block", "32"}})},
      {"p2_outer", make_recipe({{"*.*.format", "int4_p2"},
                                {"*.hadamard", "16"},
                                {"*.dy.rounding", "sr"},
                                {"fprop.x.outer", "row"},
                                {"fprop.w.outer", "128x128"},
                                {"dgrad.dy.outer", "128x128"},
                                {"wgrad.dy.outer", "row"},
                                {"wgrad.x.outer", "1x128"},
                                {"dgrad.dy.tau", "9/8"},
                                {"wgrad.x.tau", "1"}})},
      {"p2_tiles", make_recipe({{"*.*.format", "int4_p2"}, {"*.*.outer", "128x128"}})},
      {"i4_outer", make_recipe({{"*.*.format", "int4_i4"},
                                {"*.hadamard", "16"},
                                {"*.dy.rounding", "sr"},
                                {"fprop.*.outer", "row"},
                                {"dgrad.dy.outer", "1x128"},
                                {"dgrad.w.outer", "1x1024"},
                                {"wgrad.dy.outer", "1x256"}})},
      {"x_alone", make_recipe({{"fprop.x.format", "e1m2"}, {"wgrad.x.format", "e1m2"}, {"*.hadamard", "16"}})},
      {"w_alone", make_recipe({{"fprop.w.format", "e2m1"}, {"dgrad.w.format", "e2m1"}, {"*.hadamard", "32"}})},
      {"dy_alone", make_recipe({{"*.dy.format", "int4_full"}, {"*.dy.rounding", "sr"}, {"*.hadamard", "16"}})},
      {"mixed", make_recipe({{"fprop.*.format", "mxfp4"}, {"dgrad.*.format", "nvfp4"}, {"wgrad.x.format", "hif4"}})},
  };
  for (const BlockFormat& format : formats()) {
    if (format.rule == ScaleRule::kAmax) continue;
    list.push_back({format.name, make_recipe({{"*.*.format", format.name}, {"*.dy.rounding", "sr"}})});
    list.push_back({format.name, make_recipe({{"*.*.format", format.name}, {"*.hadamard", "16"}})});
  }
  return list;
}

// What stays in BF16 beside a quantized operand, by the transform of numerics.
at::Tensor transformed(const at::Tensor& dense, const OperandSpec& spec, const RandomContext& context) {
  const auto size = static_cast<std::int64_t>(spec.hadamard.size);
  if (size == 0) return dense;
  const std::int64_t padded = (dense.size(1) + size - 1) / size * size;
  at::Tensor out = at::zeros({dense.size(0), padded}, at::kFloat);
  out.narrow(1, 0, dense.size(1)).copy_(dense);
  const std::span<float> values(out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel()));
  for (std::int64_t i = 0; i < out.numel(); i += size) {
    apply_hadamard(values.subspan(static_cast<std::size_t>(i), static_cast<std::size_t>(size)), spec.hadamard,
                   context.seed);
  }
  return out.to(at::kBFloat16);
}

// One operand of a GEMM, rows by contraction axis, as the reference quantizes it: a row-wise quantization of the dense
// operand, whatever the layout that the layer reads.
at::Tensor operand(const at::Tensor& matrix, const Recipe& recipe, OperandRole role, const RandomContext& context) {
  at::Tensor dense = matrix.contiguous();
  QuantizeTask task;
  task.spec = recipe[gemm_of(role)].operand[index_of(role)];
  if (!task.spec.quantized()) return recipe[gemm_of(role)].quantized() ? transformed(dense, task.spec, context) : dense;
  task.place = {.seed = context.seed, .step = context.step, .stream = stream_of(kLayer, role)};
  if (!is_weight(role)) {
    (axis_of(role) == Axis::kRow ? task.place.row_offset : task.place.column_offset) = context.token_offset;
  }
  const QuantizedShape shape = quantized_shape(dense.size(0), dense.size(1), task.spec, Axis::kRow);
  at::Tensor out = at::empty({shape.rows, shape.columns}, at::kFloat);
  task.out.dequantized = out.mutable_data_ptr();
  task.out.dequantized_dtype = DType::kF32;
  reference::quantize({dense.const_data_ptr(), DType::kBF16, dense.size(0), dense.size(1), dense.size(1)}, task);
  return out.to(at::kBFloat16);
}

// In FP32, or as a processor with fast BF16 has it: rounded once.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, at::ScalarType type) {
  const std::int64_t depth = std::min(a.size(1), b.size(1));
  const auto part = [&](const at::Tensor& t) { return QuantizedTensor::bf16(t.narrow(1, 0, depth).contiguous()); };
  return multiply(emulated_product(at::kCPU), part(a), part(b), type);
}

struct Gradients {
  at::Tensor y;
  at::Tensor dx;
  at::Tensor dw;
};

Gradients composition(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy, const Recipe& r,
                      const RandomContext& context) {
  const at::Tensor w16 = w.to(at::kBFloat16);
  const auto of = [&](const at::Tensor& matrix, OperandRole role) { return operand(matrix, r, role, context); };
  return {product(of(x, OperandRole::kFpropX), of(w16, OperandRole::kFpropW), at::kBFloat16),
          product(of(dy, OperandRole::kDgradDy), of(w16.t(), OperandRole::kDgradW), at::kBFloat16),
          product(of(dy.t(), OperandRole::kWgradDy), of(x.t(), OperandRole::kWgradX), at::kFloat)};
}

Gradients run_layer(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy, const Recipe& recipe,
                    const RandomContext& context, Stash stash) {
  const at::Tensor x_leaf = x.detach().clone().set_requires_grad(true);
  const at::Tensor w_leaf = w.detach().clone().set_requires_grad(true);
  QuantizedLinear layer("layers.0.linear_fc1", kLayer, recipe, {.stash = stash});
  const at::Tensor y = layer.forward(x_leaf, w_leaf, context);
  y.backward(dy);
  return {y.detach(), x_leaf.grad(), w_leaf.grad()};
}

void expect_same(const Gradients& a, const Gradients& b, const std::string& what) {
  EXPECT_TRUE(at::equal(a.y, b.y)) << what << ": y";
  EXPECT_TRUE(at::equal(a.dx, b.dx)) << what << ": dx";
  EXPECT_TRUE(at::equal(a.dw, b.dw)) << what << ": dw";
}

// On this machine, and as on one whose products run the other way.
class QuantizedLinearStep : public testing::TestWithParam<std::string_view> {};

TEST_P(QuantizedLinearStep, IsTheCompositionOfReferenceAndProduct) {
  const ForcedCpuProduct forced(find_product(GetParam()));
  const RandomContext context{77, 5, 48};
  for (const std::int64_t tokens : {1, 37, 300}) {
    const at::Tensor x = at::randn({tokens, 100}).to(at::kBFloat16);
    const at::Tensor w = at::randn({72, 100});
    const at::Tensor dy = at::randn({tokens, 72}).to(at::kBFloat16);
    for (const auto& [name, recipe] : recipes()) {
      const Gradients expected = composition(x, w, dy, recipe, context);
      const std::string what = std::string(name) + ", " + std::to_string(tokens) + " tokens";
      expect_same(run_layer(x, w, dy, recipe, context, Stash::kPacked), expected, what + ", packed");
      expect_same(run_layer(x, w, dy, recipe, context, Stash::kNone), expected, what + ", no stash");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gemms, QuantizedLinearStep, testing::Values("bf16", "fp32"),
                         [](const auto& product) { return std::string(product.param); });

TEST(QuantizedLinear, WithoutQuantizationItIsTorchsLinear) {
  const ForcedCpuProduct forced(find_product("bf16"));
  const at::Tensor x = at::randn({3, 50, 64}).to(at::kBFloat16);
  const at::Tensor w = at::randn({96, 64}).to(at::kBFloat16).to(at::kFloat);
  const at::Tensor dy = at::randn({3, 50, 96}).to(at::kBFloat16);
  const at::Tensor x_leaf = x.clone().set_requires_grad(true);
  const at::Tensor w_leaf = w.clone().set_requires_grad(true);
  const at::Tensor y = at::linear(x_leaf, w_leaf.to(at::kBFloat16));
  y.backward(dy);
  const Gradients found = run_layer(x, w, dy, Recipe{}, {}, Stash::kPacked);
  EXPECT_TRUE(at::equal(found.y, y));
  EXPECT_TRUE(at::equal(found.dx, x_leaf.grad()));
  // torch rounds the gradient of a BF16 weight; an FP32 weight has the sums themselves.
  const at::Tensor exact = at::mm(dy.reshape({150, 96}).to(at::kDouble).t(), x.reshape({150, 64}).to(at::kDouble));
  const at::Tensor error = (found.dw.to(at::kDouble) - exact).abs();
  EXPECT_LT(error.max().item<double>(), 1e-5 * exact.abs().max().item<double>());
  EXPECT_LT((w_leaf.grad() - found.dw).norm().item<float>(), 4e-3F * found.dw.norm().item<float>());
}

TEST(QuantizedLinear, PatternsOfTheRecipeKeepALayerInBf16) {
  Recipe recipe = ufp4_recipe();
  set(recipe, "keep_bf16", "layers.*.linear_fc1");
  const at::Tensor x = at::randn({20, 32}).to(at::kBFloat16);
  const at::Tensor w = at::randn({16, 32});
  const at::Tensor dy = at::randn({20, 16}).to(at::kBFloat16);
  expect_same(run_layer(x, w, dy, recipe, {}, Stash::kPacked), run_layer(x, w, dy, Recipe{}, {}, Stash::kPacked),
              "kept");
}

TEST(QuantizedLinear, MicroBatchesShareOneQuantizationAndAddUp) {
  const at::Tensor x = at::randn({64, 32}).to(at::kBFloat16);
  const at::Tensor w = at::randn({48, 32}).set_requires_grad(true);
  Recipe recipe = ufp4_recipe();
  set(recipe, "fprop.x.rounding", "sr");
  QuantizedLinear layer("l", kLayer, recipe);
  QuantizedLinear whole("l", kLayer, recipe);
  const at::Tensor y = whole.forward(x, w, {1, 9, 0});
  y.sum().backward();
  const at::Tensor whole_gradient = w.grad().clone();
  w.mutable_grad().reset();

  at::Tensor gradient_storage;
  for (const std::uint32_t first : {0U, 32U}) {
    const at::Tensor part = layer.forward(x.narrow(0, first, 32), w, {1, 9, first});
    EXPECT_TRUE(at::equal(part, y.narrow(0, first, 32))) << "the draws of tokens " << first;
    part.sum().backward();
    if (gradient_storage.defined()) {
      EXPECT_EQ(gradient_storage.data_ptr(), w.grad().data_ptr()) << "not accumulated in place";
    }
    gradient_storage = w.grad();
  }
  EXPECT_EQ(w.grad().scalar_type(), at::kFloat);
  // Blocks along the tokens lie as in the whole, and every product leaves in FP32.
  EXPECT_LT((w.grad() - whole_gradient).norm().item<float>(), 1e-6F * whole_gradient.norm().item<float>());
  EXPECT_EQ(layer.weight_preparations(), 1);

  layer.forward(x, w, {1, 10, 0});
  EXPECT_EQ(layer.weight_preparations(), 2) << "the next step quantizes again";
  {
    const c10::NoGradGuard no_grad;
    w.mul_(0.5);
  }
  layer.forward(x, w, {1, 10, 0});
  EXPECT_EQ(layer.weight_preparations(), 3) << "a changed weight is quantized again";
}

TEST(QuantizedLinear, OperandsMadeByEachPassAreThoseOfTheStep) {
  const at::Tensor x = at::randn({64, 96}).to(at::kBFloat16);
  const at::Tensor w = at::randn({48, 96});
  const at::Tensor dy = at::randn({64, 48}).to(at::kBFloat16);
  for (const char* format : {"e1m2", "int4_p2"}) {
    Recipe recipe = ufp4_recipe();
    set(recipe, "*.*.format", format);
    set(recipe, "fprop.w.rounding", "sr");
    for (const at::Device& device : test_devices()) {
      const auto run = [&](Stash stash, WeightLife life, std::int64_t preparations) {
        const at::Tensor x_leaf = x.to(device).clone().set_requires_grad(true);
        const at::Tensor w_leaf = w.to(device).clone().set_requires_grad(true);
        QuantizedLinear layer("l", kLayer, recipe, {.stash = stash, .life = life});
        const at::Tensor y = layer.forward(x_leaf, w_leaf, {1, 9, 0});
        y.backward(dy.to(device));
        EXPECT_EQ(layer.weight_preparations(), preparations);
        return Gradients{y.detach(), x_leaf.grad(), w_leaf.grad()};
      };
      const Gradients expected = run(Stash::kPacked, WeightLife::kStep, 1);
      for (const Stash stash : {Stash::kPacked, Stash::kNone}) {
        expect_same(run(stash, WeightLife::kPass, 0), expected, std::string(format) + " on " + device.str());
      }
    }
  }
}

TEST(QuantizedLinear, AGradientInPlaceIsMadeByTheFirstMicroBatch) {
  const at::Tensor x = at::randn({64, 32}).to(at::kBFloat16);
  const at::Tensor w = at::randn({48, 32}).set_requires_grad(true);
  const at::Tensor returned_w = w.detach().clone().set_requires_grad(true);
  QuantizedLinear in_place("l", kLayer, ufp4_recipe(), {.gradient = WeightGradient::kInPlace});
  QuantizedLinear returning("l", kLayer, ufp4_recipe());
  for (const std::uint32_t step : {1U, 2U}) {  // what the step before left is not added to
    returned_w.mutable_grad().reset();
    for (const std::uint32_t first : {0U, 32U}) {
      const RandomContext context{.seed = 1, .step = step, .token_offset = first, .micro_batch = first / 32};
      in_place.forward(x.narrow(0, first, 32), w, context).sum().backward();
      returning.forward(x.narrow(0, first, 32), returned_w, context).sum().backward();
    }
    EXPECT_TRUE(w.grad().equal(returned_w.grad()));
  }
  const at::Tensor bf16 = w.detach().to(at::kBFloat16).set_requires_grad(true);
  in_place.forward(x, bf16, {1, 3, 0}).sum().backward();
  EXPECT_EQ(bf16.grad().scalar_type(), at::kBFloat16) << "returned: a gradient in place is FP32";
}

TEST(QuantizedLinear, SmallStashHoldsFourBitsAndScales) {
  const at::Tensor x = at::randn({64, 32}).to(at::kBFloat16);
  const at::Tensor w = at::randn({16, 32}).set_requires_grad(true);
  QuantizedLinear layer("l", kLayer, ufp4_recipe());
  const auto references = x.use_count();
  const at::Tensor y = layer.forward(x, w, {});
  EXPECT_EQ(x.use_count(), references) << "x itself is kept";
  QuantizedLinear keeping("l", kLayer, ufp4_recipe(), {.stash = Stash::kNone});
  const at::Tensor z = keeping.forward(x, w, {});
  EXPECT_GT(x.use_count(), references);
}

TEST(QuantizedLinear, OnlyTheGradientsThatAreWantedAreMade) {
  const at::Tensor x = at::randn({20, 32}).to(at::kBFloat16).set_requires_grad(true);
  const at::Tensor w = at::randn({16, 32});
  QuantizedLinear layer("l", kLayer, ufp4_recipe());
  layer.forward(x, w, {}).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(w.grad().defined());
  const c10::NoGradGuard no_grad;
  EXPECT_FALSE(layer.forward(x, w, {}).requires_grad());
}

TEST(QuantizedLinear, ErrorsNameWhatWasFound) {
  QuantizedLinear layer("l", 0, Recipe{});
  const at::Tensor x = at::zeros({4, 8}, at::kBFloat16);
  const auto message = [&](const at::Tensor& input, const at::Tensor& weight) {
    return message_of<InputError>([&] { layer.forward(input, weight, {}); });
  };
  EXPECT_NE(message(x.to(at::kFloat), at::zeros({2, 8})).find("x is Float, expected BFloat16"), std::string::npos);
  EXPECT_NE(message(x, at::zeros({2, 9})).find("[4, 8] is not that of the weight [2, 9]"), std::string::npos);
  EXPECT_NE(message(x, at::zeros({8})).find("expected a matrix"), std::string::npos);
  EXPECT_NE(message(x, at::zeros({2, 8}, at::kHalf)).find("the weight is Half"), std::string::npos);
  Recipe wrong;
  for (OperandSpec& spec : wrong.gemm[0].operand) spec.hadamard.size = 7;
  EXPECT_THROW(QuantizedLinear("l", 0, wrong), InputError);
}

}  // namespace
}  // namespace ufp4
