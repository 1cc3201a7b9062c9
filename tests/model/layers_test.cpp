// The differentiable layers against torch's operators in FP64.
#include "model/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "test_devices.h"

namespace ufp4 {
namespace {

double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wide = expected.detach().to(at::kDouble);
  return ((found.detach().to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

at::Tensor leaf(const at::Tensor& t) { return t.detach().clone().set_requires_grad(true); }

// With few tokens that come often, as bytes do, torch's own backward pass adds in an order that varies on a GPU.
TEST(Embed, RoundsRowsAndAddsTheirGradientsInAFixedOrder) {
  const at::Tensor weight = at::randn({96, 64});
  const at::Tensor tokens = (at::rand({16384}).pow(4) * 90).to(at::kLong);
  const at::Tensor dy = at::randn({16384, 64}).to(at::kBFloat16);
  const at::Tensor expected = at::zeros({96, 64}, at::kDouble).index_add_(0, tokens, dy.to(at::kDouble));
  for (const at::Device& device : test_devices()) {
    at::Tensor first;
    for (int i = 0; i < 20; ++i) {
      const at::Tensor w = leaf(weight.to(device));
      const at::Tensor y = embed(w, tokens.to(device));
      EXPECT_TRUE(y.equal(weight.index_select(0, tokens).to(at::kBFloat16).to(device)));
      y.backward(dy.to(device));
      EXPECT_LT(relative_error(w.grad().cpu(), expected), 1e-6);
      if (!first.defined()) first = w.grad();
      ASSERT_TRUE(w.grad().equal(first)) << device << ", " << i;
    }
  }
}

TEST(RmsNorm, DifferentiatesXBranchAndWeight) {
  for (const bool branch : {false, true}) {
    const at::Tensor x = leaf(at::randn({3, 40, 48}).to(at::kBFloat16));
    const at::Tensor added = branch ? leaf(at::randn({3, 40, 48}).to(at::kBFloat16)) : at::Tensor();
    const at::Tensor weight = leaf(at::randn({48}));
    const at::Tensor wide = leaf((branch ? x + added : x).to(at::kDouble));
    const at::Tensor wide_weight = leaf(weight.to(at::kDouble));
    const at::Tensor expected = wide * at::rsqrt(wide.square().mean(-1, true) + 1e-5) * wide_weight;
    const at::Tensor found = rms_norm(x, weight, 1e-5, added);
    EXPECT_LT(relative_error(found, expected), 0x1p-8);
    const at::Tensor dy = at::randn(found.sizes()).to(at::kBFloat16);
    found.backward(dy);
    expected.backward(dy.to(at::kDouble));
    EXPECT_LT(relative_error(x.grad(), wide.grad()), 0x1p-8);
    EXPECT_LT(relative_error(weight.grad(), wide_weight.grad()), 1e-5);
    EXPECT_TRUE(!branch || added.grad().equal(x.grad()));
  }
}

TEST(RotaryTable, HoldsTheAnglesOfItsTokens) {
  const at::Tensor table = rotary_table(20, 64, 10000, at::kCPU);
  EXPECT_NEAR(table[3][0].item<double>(), std::cos(3.0), 1e-6);
  EXPECT_NEAR(table[3][32].item<double>(), std::sin(3.0), 1e-6);
  EXPECT_NEAR(table[19][63].item<double>(), std::sin(19 * std::pow(10000, -62.0 / 64)), 1e-6);
}

// Rotation, causal attention and its gradient, head by head.
TEST(RotaryAttention, IsItsDefinitionForAnyGrouping) {
  const std::int64_t tokens = 13;
  const at::Tensor beyond = at::ones({tokens, tokens}, at::kBool).triu(1);
  const at::Tensor table = rotary_table(tokens, 16, 10000, at::kCPU);
  const at::Tensor cos = table.narrow(1, 0, 8).to(at::kDouble).unsqueeze(1);
  const at::Tensor sin = table.narrow(1, 8, 8).to(at::kDouble).unsqueeze(1);
  for (const std::int64_t kv_heads : {1, 2, 4}) {
    const at::Tensor input = at::randn({2, tokens, 4 + 2 * kv_heads, 16}).to(at::kBFloat16);
    const at::Tensor wide = leaf(input.to(at::kDouble));
    const at::Tensor a = wide.narrow(3, 0, 8);
    const at::Tensor b = wide.narrow(3, 8, 8);
    const at::Tensor turned = at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
    std::vector<at::Tensor> heads;
    for (std::int64_t head = 0; head < 4; ++head) {
      const std::int64_t group = head / (4 / kv_heads);
      const at::Tensor scores = at::matmul(turned.select(2, head), turned.select(2, 4 + group).transpose(1, 2)) / 4;
      heads.push_back(at::matmul(scores.masked_fill(beyond, -1e30).softmax(-1), wide.select(2, 4 + kv_heads + group)));
    }
    const at::Tensor expected = at::cat(heads, -1);

    const at::Tensor qkv = leaf(input);
    const at::Tensor found = rotary_attention(qkv * 1, table, 4);  // a copy is taken over
    ASSERT_EQ(found.sizes(), expected.sizes());
    EXPECT_LT(relative_error(found, expected), 0x1p-7);
    const at::Tensor dy = at::randn(found.sizes()).to(at::kBFloat16);
    found.backward(dy);
    expected.backward(dy.to(at::kDouble));
    EXPECT_LT(relative_error(qkv.grad(), wide.grad()), 0x1p-6);
    const c10::NoGradGuard no_grad;
    EXPECT_TRUE(rotary_attention(input.clone(), table, 4).equal(found));
  }
}

}  // namespace
}  // namespace ufp4
