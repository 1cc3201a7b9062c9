// A text that grows token by token against the same text at once, for every kind of model; and what a draw gives.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "message_of.h"
#include "model/sampling.h"
#include "model/transformer.h"
#include "relative_error.h"
#include "ufp4/error.h"
#include "ufp4_recipe.h"

namespace ufp4 {
namespace {

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 64;
  config.d_model = 48;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.ffn = 80;
  config.context = 24;
  return config;
}

std::vector<ModelConfig> kinds() {
  ModelConfig plain = small_config();
  ModelConfig qwen2 = plain;
  qwen2.qkv_bias = true;
  qwen2.tie_embeddings = true;
  ModelConfig qwen3 = plain;
  qwen3.qk_norm = true;
  qwen3.given_head_size = 16;
  qwen3.rope = {.scaling = RopeScaling::kYarn, .factor = 4, .original_context = 8};
  ModelConfig olmo = plain;
  olmo.qk_norm = true;
  olmo.qk_norm_width = QkNormWidth::kAll;
  olmo.norm_place = NormPlace::kAfter;
  return {plain, qwen2, qwen3, olmo};
}

// With larger weights, so that every part has a say.
Transformer model_of(const ModelConfig& config, const Recipe& recipe) {
  Transformer model(config, recipe, {.seed = 3});
  const c10::NoGradGuard no_grad;
  for (const NamedParameter& p : model.parameters()) {
    if (p.decay) p.tensor.mul_(6);
    if (p.name.ends_with("qkv_bias")) p.tensor.uniform_(-1, 1);
  }
  return model;
}

TEST(Decoding, GivesTheLogitsOfTheWholeText) {
  for (const ModelConfig& config : kinds()) {
    Transformer model = model_of(config, Recipe{});
    const at::Tensor tokens = at::randint(config.vocab_size, {1, 20}, at::kLong);
    const at::Tensor expected = model.logits(tokens, {})[0];
    Decoding decoding = model.begin_decoding(20);
    std::int64_t first = 0;
    for (const std::int64_t length : {7, 1, 1, 5, 1, 5}) {  // a prompt, tokens, and more than one at a time
      const at::Tensor found = model.extend(tokens.narrow(1, first, length), decoding, {});
      first += length;
      EXPECT_LT(relative_error(found.to(at::kFloat), expected[first - 1].to(at::kFloat)), 0.02) << first;
    }
    EXPECT_EQ(decoding.past, 20);
    EXPECT_NE(message_of<InputError>([&] { model.extend(tokens.narrow(1, 0, 1), decoding, {}); }).find("21 tokens"),
              std::string::npos);
  }
}

TEST(Decoding, RunsQuantizedAsTrained) {
  for (const ModelConfig& config : kinds()) {
    Transformer model = model_of(config, ufp4_recipe());
    const at::Tensor tokens = at::randint(config.vocab_size, {1, 16}, at::kLong);
    Decoding decoding = model.begin_decoding(16);
    at::Tensor last;
    for (std::int64_t i = 0; i < 16; ++i) last = model.extend(tokens.narrow(1, i, 1), decoding, {});
    // UFP4's forward operands have a scale for each block alone, so that the same tokens give the same operands, but
    // for what attention rounds otherwise. What quantization does is much more.
    const at::Tensor expected = model.logits(tokens, {})[0][15].to(at::kFloat);
    const at::Tensor plain = model_of(config, Recipe{}).logits(tokens, {})[0][15].to(at::kFloat);
    Decoding at_once = model.begin_decoding(16);
    EXPECT_LT(relative_error(model.extend(tokens, at_once, {}).to(at::kFloat), expected), 1e-6);
    EXPECT_GT(relative_error(plain, expected), 2 * relative_error(last.to(at::kFloat), expected));
  }
}

TEST(TokenLosses, AreTheLossOfEveryToken) {
  for (const ModelConfig& config : kinds()) {
    Transformer model = model_of(config, Recipe{});
    const at::Tensor tokens = at::randint(config.vocab_size, {3, 21}, at::kLong);
    const at::Tensor losses = model.token_losses(tokens, {});
    EXPECT_EQ(losses.sizes(), (std::vector<std::int64_t>{3, 20}));
    EXPECT_NEAR(losses.mean().item<double>(), model.loss_no_grad(tokens, {}).item<double>(), 1e-4);
  }
}

TEST(EveryKindOfModel, HasAGradientForEachParameterThatADifferenceConfirms) {
  for (const ModelConfig& config : kinds()) {
    for (const Recipe& recipe : {Recipe{}, ufp4_recipe()}) {
      Transformer model = model_of(config, recipe);
      const at::Tensor tokens = at::randint(config.vocab_size, {2, 24}, at::kLong);
      model.loss(tokens, {7, 0, 0}).backward();
      std::int64_t count = 0;
      for (const NamedParameter& p : model.parameters()) {
        ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
        EXPECT_GT(p.tensor.grad().norm().item<float>(), 0) << p.name;
        EXPECT_TRUE(std::isfinite(p.tensor.grad().norm().item<float>())) << p.name;
        count += p.tensor.numel();
      }
      EXPECT_EQ(count, parameter_count(config));
      if (recipe.quantized()) continue;
      // A step along the gradient of each kind of vector changes the loss by its norm. BF16 leaves some noise.
      for (const NamedParameter& p : model.parameters()) {
        if (p.decay) continue;
        const c10::NoGradGuard no_grad;
        const at::Tensor kept = p.tensor.clone();
        const double norm = p.tensor.grad().norm().item<double>();
        const at::Tensor step = p.tensor.grad() * (0.1 / norm);
        p.tensor.copy_(kept + step);
        const double above = model.loss_no_grad(tokens, {7, 0, 0}).item<double>();
        p.tensor.copy_(kept - step);
        const double below = model.loss_no_grad(tokens, {7, 0, 0}).item<double>();
        p.tensor.copy_(kept);
        EXPECT_NEAR((above - below) / 0.2, norm, 0.25 * norm + 0.1) << p.name;
      }
    }
  }
}

TEST(Sample, TakesTheMostProbableAtTemperatureZero) {
  EXPECT_EQ(sample(std::vector<float>{1, 3, 2, 3}, {.temperature = 0}, 5), 1);
  EXPECT_EQ(sample(std::vector<float>{1, 3, 2}, {.temperature = 1, .top_p = 0}, 5), 1);
}

TEST(Sample, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits{0, std::log(2.0F), std::log(5.0F), -30};
  std::map<std::int32_t, int> counts;
  constexpr int kDraws = 8000;
  for (int i = 0; i < kDraws; ++i) ++counts[sample(logits, {.seed = 9}, static_cast<std::uint64_t>(i))];
  EXPECT_NEAR(counts[0], kDraws / 8, 150);
  EXPECT_NEAR(counts[1], kDraws / 4, 200);
  EXPECT_NEAR(counts[2], kDraws * 5 / 8, 220);
  EXPECT_EQ(counts[3], 0);
  std::map<std::int32_t, int> cut;
  for (int i = 0; i < kDraws; ++i) {
    ++cut[sample(logits, {.top_p = 0.8, .seed = 9}, static_cast<std::uint64_t>(i))];
  }
  EXPECT_EQ(cut[0], 0);  // the other two have 7 / 8
  EXPECT_NEAR(cut[1], kDraws * 2 / 7, 200);
}

TEST(Sample, DependsOnSeedAndDrawAlone) {
  const std::vector<float> logits(100, 0.5F);
  EXPECT_EQ(sample(logits, {.seed = 1}, 7), sample(logits, {.seed = 1}, 7));
  int same = 0;
  for (std::uint64_t i = 0; i < 100; ++i) same += sample(logits, {.seed = 1}, i) == sample(logits, {.seed = 2}, i);
  EXPECT_LT(same, 10);
  EXPECT_THROW(sample(std::vector<float>{0, NAN}, {}, 0), RunError);
}

}  // namespace
}  // namespace ufp4
