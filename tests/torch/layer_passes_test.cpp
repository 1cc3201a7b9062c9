// The layers between the linears, forward and backward, against torch's operators in FP64.
#include "torch/layer_passes.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <gtest/gtest.h>

#include "relative_error.h"
#include "test_devices.h"

namespace ufp4 {
namespace {

// Rounding to BF16 has a relative error of at most 2^-9.
constexpr double kBf16Error = 0x1p-8;

at::Tensor random_bf16(at::IntArrayRef shape) { return at::randn(shape).to(at::kBFloat16); }

at::Tensor wide_leaf(const at::Tensor& t) { return t.to(at::kDouble).clone().set_requires_grad(true); }

TEST(RmsNorm, IsItsDefinition) {
  for (const std::int64_t size : {8, 50, 384}) {
    const at::Tensor x = random_bf16({600, size});
    const at::Tensor dy = random_bf16({600, size});
    const at::Tensor weight = at::randn({size});
    const RmsStatistics of = rms_statistics(x, {}, 1e-5);
    EXPECT_TRUE(of.x.is_same(x));
    const RmsNormGradients found = rms_norm_backward(dy, of, weight, {});

    const at::Tensor wide = wide_leaf(x);
    const at::Tensor wide_weight = wide_leaf(weight);
    const at::Tensor y = wide * at::rsqrt(wide.square().mean(-1, true) + 1e-5) * wide_weight;
    y.backward(dy.to(at::kDouble));
    EXPECT_LT(relative_error(rms_norm_forward(of, weight), y), kBf16Error);
    EXPECT_LT(relative_error(found.dx, wide.grad()), kBf16Error);
    EXPECT_LT(relative_error(found.dweight, wide_weight.grad()), 1e-5);
  }
}

TEST(RmsNorm, ABranchIsAddedBefore) {
  const at::Tensor x = random_bf16({5, 70});
  const at::Tensor branch = random_bf16({5, 70});
  const RmsStatistics of = rms_statistics(x, branch, 1e-5);
  EXPECT_TRUE(of.x.equal(x + branch));
  EXPECT_TRUE(of.rstd.equal(rms_statistics(x + branch, {}, 1e-5).rstd));
}

TEST(RmsNorm, TheGradientOfTheResidualIsAddedAfter) {
  const at::Tensor weight = at::randn({70});
  const at::Tensor dy = random_bf16({300, 70});
  const at::Tensor residual = random_bf16({300, 70});
  const RmsStatistics of = rms_statistics(random_bf16({300, 70}), {}, 1e-5);
  const RmsNormGradients alone = rms_norm_backward(dy, of, weight, {});
  const RmsNormGradients added = rms_norm_backward(dy, of, weight, residual);
  EXPECT_TRUE(added.dx.equal(residual + alone.dx));
  EXPECT_TRUE(added.dweight.equal(alone.dweight));
}

TEST(RmsNorm, TakesAPartOfATensor) {
  const at::Tensor part = random_bf16({2, 5, 6, 16}).narrow(2, 1, 3);
  const at::Tensor weight = at::ones({16}, at::kFloat);
  const at::Tensor found = rms_norm_forward(rms_statistics(part, {}, 1e-5), weight);
  EXPECT_TRUE(found.equal(rms_norm_forward(rms_statistics(part.contiguous(), {}, 1e-5), weight)));
}

TEST(Swiglu, IsItsDefinition) {
  for (const std::int64_t half : {3, 16, 100}) {
    const at::Tensor h = (3 * at::randn({30, 2 * half})).to(at::kBFloat16);
    const at::Tensor dy = random_bf16({30, half});
    const at::Tensor wide = wide_leaf(h);
    const at::Tensor y = at::silu(wide.narrow(-1, 0, half)) * wide.narrow(-1, half, half);
    y.backward(dy.to(at::kDouble));
    EXPECT_LT(relative_error(swiglu_forward(h), y), kBf16Error);
    EXPECT_LT(relative_error(swiglu_backward(dy, h), wide.grad()), kBf16Error);
  }
}

TEST(Swiglu, HoldsAtTheEndsOfTheRange) {
  const at::Tensor gate = 1000 * at::randn({1, 64});
  const at::Tensor y = swiglu_forward(at::cat({gate, at::ones({1, 64})}, -1).to(at::kBFloat16));
  const at::Tensor expected = gate.to(at::kBFloat16).to(at::kDouble).clamp_min(0);
  EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), 0.3);
}

at::Tensor turned(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const std::int64_t half = x.size(3) / 2;
  const at::Tensor a = x.narrow(3, 0, half);
  const at::Tensor b = x.narrow(3, half, half);
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
}

TEST(Rotary, IsAComplexProduct) {
  for (const std::int64_t size : {2, 32, 64, 72}) {
    const at::Tensor angle = at::randn({11, size / 2});
    const at::Tensor table = at::cat({angle.cos(), angle.sin()}, -1);
    const at::Tensor cos = angle.to(at::kDouble).cos().unsqueeze(1);
    const at::Tensor sin = angle.to(at::kDouble).sin().unsqueeze(1);
    const at::Tensor qkv = random_bf16({2, 11, 4, size});
    for (const float direction : {1.0F, -1.0F}) {
      const at::Tensor to = at::empty_like(qkv);
      rotary({{qkv.narrow(2, 0, 3), true}, {qkv.narrow(2, 3, 1), false}}, table, direction, to);
      EXPECT_LT(relative_error(to.narrow(2, 0, 3), turned(qkv.narrow(2, 0, 3).to(at::kDouble), cos, direction * sin)),
                kBf16Error);
      EXPECT_TRUE(to.narrow(2, 3, 1).equal(qkv.narrow(2, 3, 1)));
    }
  }
}

void expect_any_strides(const at::Device& device) {
  const at::Tensor table = at::randn({11, 32}).to(device);
  const at::Tensor qkv = random_bf16({2, 4, 11, 32}).to(device).transpose(1, 2);
  const at::Tensor to = at::empty({2, 11, 4, 32}, qkv.options());
  rotary({{qkv.narrow(2, 0, 1), true}, {qkv.narrow(2, 1, 3), true}}, table, 1, to);
  const at::Tensor in_place = qkv.contiguous();
  rotary({{in_place.narrow(2, 0, 1), true}, {in_place.narrow(2, 1, 3), true}}, table, 1, in_place);
  EXPECT_TRUE(in_place.equal(to));
  // Heads that begin and lie apart by no multiple of 16 bytes.
  const at::Tensor odd = at::empty({2, 11, 4, 37}, qkv.options()).narrow(3, 3, 32);
  odd.copy_(qkv);
  const at::Tensor from_odd = at::empty_like(to);
  rotary({{odd.narrow(2, 0, 1), true}, {odd.narrow(2, 1, 3), true}}, table, 1, from_odd);
  EXPECT_TRUE(from_odd.equal(to));
}

TEST(Rotary, WorksInPlaceAndFromAnyStrides) {
  for (const at::Device& device : test_devices()) expect_any_strides(device);
}

TEST(CrossEntropy, IsItsDefinition) {
  for (const std::int64_t vocabulary : {3, 64, 1000}) {
    const at::Tensor logits = (4 * at::randn({20, vocabulary})).to(at::kBFloat16);
    const at::Tensor targets = at::randint(vocabulary, {20}, at::kLong);
    const at::Tensor wide = wide_leaf(logits);
    const at::Tensor expected = at::cross_entropy_loss(wide, targets);
    expected.backward();
    EXPECT_NEAR(cross_entropy(logits, targets, false, 1).mean().item<double>(), expected.item<double>(), 1e-5);
    const at::Tensor gradient = logits.clone();
    cross_entropy(gradient, targets, true, 1.0 / 20);
    EXPECT_LT(relative_error(gradient, wide.grad()), kBf16Error);
  }
}

}  // namespace
}  // namespace ufp4
