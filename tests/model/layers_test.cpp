// The parts between the linears, forward and backward, against torch's operators in FP64.
#include "model/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace ufp4 {
namespace {

at::Tensor leaf(const at::Tensor& t) { return t.detach().clone().set_requires_grad(true); }

double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wide = expected.to(at::kDouble);
  return ((found.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

// Compares value and gradients of `layer` in BF16 with those of `plain` in FP64. Rounding to BF16 has a relative error
// of at most 2^-8.
void expect_like(const std::function<at::Tensor(const at::Tensor&)>& layer,
                 const std::function<at::Tensor(const at::Tensor&)>& plain, const at::Tensor& input) {
  const at::Tensor x = leaf(input);
  const at::Tensor wide_x = leaf(input.to(at::kDouble));
  const at::Tensor y = layer(x);
  const at::Tensor expected = plain(wide_x);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  ASSERT_EQ(y.sizes(), expected.sizes());
  EXPECT_LT(relative_error(y, expected), 0x1p-8);
  const at::Tensor dy = at::randn(y.sizes()).to(at::kBFloat16);
  y.backward(dy);
  expected.backward(dy.to(at::kDouble));
  EXPECT_LT(relative_error(x.grad(), wide_x.grad()), 0x1p-8);
}

TEST(RmsNorm, IsItsDefinition) {
  for (const std::int64_t size : {8, 50, 384}) {
    const at::Tensor weight = leaf(at::randn({size}));
    const at::Tensor wide_weight = leaf(weight.detach().to(at::kDouble));
    expect_like([&](const at::Tensor& x) { return rms_norm(x, weight, 1e-5); },
                [&](const at::Tensor& x) { return x * at::rsqrt(x.square().mean(-1, true) + 1e-5) * wide_weight; },
                at::randn({3, 40, size}).to(at::kBFloat16));
    EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
    EXPECT_LT(relative_error(weight.grad(), wide_weight.grad()), 1e-5);
  }
}

TEST(RmsNorm, TakesAPartOfATensor) {
  const at::Tensor weight = at::ones({16}, at::kFloat);
  const at::Tensor x = at::randn({2, 5, 6, 16}).to(at::kBFloat16);
  expect_like([&](const at::Tensor& t) { return rms_norm(t.narrow(2, 1, 3), weight, 1e-5); },
              [&](const at::Tensor& t) {
                const at::Tensor part = t.narrow(2, 1, 3);
                return part * at::rsqrt(part.square().mean(-1, true) + 1e-5);
              },
              x);
}

TEST(Swiglu, IsItsDefinition) {
  for (const std::int64_t half : {3, 16, 100}) {
    expect_like([](const at::Tensor& x) { return swiglu(x); },
                [&](const at::Tensor& x) { return at::silu(x.narrow(-1, 0, half)) * x.narrow(-1, half, half); },
                (3 * at::randn({2, 30, 2 * half})).to(at::kBFloat16));
  }
}

TEST(Swiglu, HoldsAtTheEndsOfTheRange) {
  const at::Tensor gate = (1000 * at::randn({1, 64}));
  const at::Tensor y = swiglu(at::cat({gate, at::ones({1, 64})}, -1).to(at::kBFloat16));
  const at::Tensor expected = gate.to(at::kBFloat16).to(at::kDouble).clamp_min(0);
  EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), 0.3);
}

TEST(Rotate, IsAComplexProduct) {
  for (const std::int64_t size : {2, 32, 64, 72}) {
    const at::Tensor table = rotary_table(20, size, 10000, at::kCPU);
    const at::Tensor cos = table.narrow(1, 0, size / 2).to(at::kDouble).narrow(0, 0, 11).unsqueeze(1);
    const at::Tensor sin = table.narrow(1, size / 2, size / 2).to(at::kDouble).narrow(0, 0, 11).unsqueeze(1);
    EXPECT_NEAR(table[3][0].item<double>(), std::cos(3.0), 1e-6);
    expect_like([&](const at::Tensor& x) { return rotate(x.narrow(2, 1, 2), table); },
                [&](const at::Tensor& x) {
                  const at::Tensor a = x.narrow(2, 1, 2).narrow(3, 0, size / 2);
                  const at::Tensor b = x.narrow(2, 1, 2).narrow(3, size / 2, size / 2);
                  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
                },
                at::randn({2, 11, 4, size}).to(at::kBFloat16));
  }
}

TEST(CausalAttention, IsItsDefinitionForAnyGrouping) {
  const std::int64_t tokens = 13;
  const at::Tensor mask = at::ones({tokens, tokens}, at::kBool).tril();
  for (const std::int64_t kv_heads : {1, 2, 4}) {
    const at::Tensor q = at::randn({2, tokens, 4, 16}).to(at::kBFloat16);
    const at::Tensor k = at::randn({2, tokens, kv_heads, 16}).to(at::kBFloat16);
    const at::Tensor v = at::randn({2, tokens, kv_heads, 16}).to(at::kBFloat16);
    const at::Tensor found = causal_attention(q, k, v).view({2, tokens, 4, 16});
    for (std::int64_t head = 0; head < 4; ++head) {
      const std::int64_t group = head / (4 / kv_heads);
      const at::Tensor scores =
          at::matmul(q.select(2, head).to(at::kDouble), k.select(2, group).to(at::kDouble).transpose(1, 2)) / 4;
      const at::Tensor weights = scores.masked_fill(mask.logical_not(), -1e30).softmax(-1);
      EXPECT_LT(relative_error(found.select(2, head), at::matmul(weights, v.select(2, group).to(at::kDouble))), 0x1p-7);
    }
  }
}

}  // namespace
}  // namespace ufp4
