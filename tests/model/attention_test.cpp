// Attention against its definition in FP64.
#include "model/attention.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "relative_error.h"

namespace ufp4 {
namespace {

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

// By the formulas of the papers, written down once more.
TEST(RotaryTable, ScalingStretchesWhatItShould) {
  constexpr std::int64_t kSize = 32;
  constexpr double kTheta = 10000;
  const auto frequency_of = [&](const RopeSettings& rope, std::int64_t pair) {
    const at::Tensor table = rotary_table(2, kSize, kTheta, at::kCPU, rope);
    return std::atan2(table[1][kSize / 2 + pair].item<double>(), table[1][pair].item<double>());
  };
  const auto plain = [&](std::int64_t pair) { return std::pow(kTheta, -2.0 * static_cast<double>(pair) / kSize); };
  for (std::int64_t pair = 0; pair < kSize / 2; ++pair) {
    EXPECT_NEAR(frequency_of({}, pair), plain(pair), 1e-6);
    EXPECT_NEAR(frequency_of({.scaling = RopeScaling::kLinear, .factor = 4}, pair), plain(pair) / 4, 1e-6);

    const RopeSettings llama{.scaling = RopeScaling::kLlama3, .factor = 8, .original_context = 64};
    const double wavelength = 2 * std::numbers::pi / plain(pair);
    const double share = std::clamp((64 / wavelength - 1) / (4 - 1), 0.0, 1.0);
    EXPECT_NEAR(frequency_of(llama, pair), share * plain(pair) + (1 - share) * plain(pair) / 8, 1e-6) << pair;
  }
  // The fastest pairs stay, the slowest are stretched in full, and all are longer by 0.1 ln(factor) + 1.
  const RopeSettings yarn{.scaling = RopeScaling::kYarn, .factor = 16, .original_context = 512};
  EXPECT_NEAR(frequency_of(yarn, 0), plain(0), 1e-6);
  EXPECT_NEAR(frequency_of(yarn, kSize / 2 - 1), plain(kSize / 2 - 1) / 16, 1e-7);
  EXPECT_NEAR(rotary_table(1, kSize, kTheta, at::kCPU, yarn)[0][0].item<double>(), 0.1 * std::log(16.0) + 1, 1e-6);
  RopeSettings given = yarn;
  given.attention_factor = 1;
  EXPECT_EQ(rotary_table(1, kSize, kTheta, at::kCPU, given)[0][0].item<double>(), 1);
}

}  // namespace
}  // namespace ufp4
