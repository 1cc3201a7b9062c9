#include "model/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "model/attention.h"
#include "model/layers.h"
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
  config.qk_norm = true;
  return config;
}

at::Tensor some_tokens(const ModelConfig& config, std::int64_t length) {
  return at::randint(config.vocab_size, {3, length}, at::kLong);
}

// The same model as plain torch operators in FP32.
at::Tensor plain_logits(const Transformer& model, const at::Tensor& tokens) {
  std::map<std::string, at::Tensor> p;
  for (const NamedParameter& parameter : model.parameters()) p[parameter.name] = parameter.tensor.detach();
  const ModelConfig& c = model.config();
  const std::int64_t size = c.head_size();
  const std::int64_t length = tokens.size(1);
  const auto norm = [&](const at::Tensor& x, const at::Tensor& w) {
    return x * at::rsqrt(x.square().mean(-1, true) + c.norm_epsilon) * w;
  };
  const at::Tensor table = rotary_table(length, size, c.rope_theta, at::kCPU).unsqueeze(1);
  const auto turn = [&](const at::Tensor& x) {
    const at::Tensor cos = at::cat({table.narrow(2, 0, size / 2), table.narrow(2, 0, size / 2)}, -1);
    const at::Tensor sin = at::cat({table.narrow(2, size / 2, size / 2), table.narrow(2, size / 2, size / 2)}, -1);
    return x * cos + at::cat({-x.narrow(3, size / 2, size / 2), x.narrow(3, 0, size / 2)}, -1) * sin;
  };
  const at::Tensor hidden_from = at::ones({length, length}, at::kBool).triu(1);
  at::Tensor x = at::embedding(p["embedding"], tokens);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string at_layer = "layers." + std::to_string(i) + ".";
    const at::Tensor qkv = at::linear(norm(x, p[at_layer + "attention_norm"]), p[at_layer + "linear_qkv"])
                               .view({tokens.size(0), length, c.heads + 2 * c.kv_heads, size});
    const at::Tensor q = turn(norm(qkv.narrow(2, 0, c.heads), p[at_layer + "q_norm"]));
    const at::Tensor k = turn(norm(qkv.narrow(2, c.heads, c.kv_heads), p[at_layer + "k_norm"]));
    const at::Tensor v = qkv.narrow(2, c.heads + c.kv_heads, c.kv_heads);
    std::vector<at::Tensor> heads;
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t group = h / (c.heads / c.kv_heads);
      const at::Tensor scores = at::matmul(q.select(2, h), k.select(2, group).transpose(1, 2)) / std::sqrt(size);
      heads.push_back(at::matmul(scores.masked_fill(hidden_from, -1e30).softmax(-1), v.select(2, group)));
    }
    x = x + at::linear(at::cat(heads, -1), p[at_layer + "linear_proj"]);
    const at::Tensor gate_up = at::linear(norm(x, p[at_layer + "ffn_norm"]), p[at_layer + "linear_fc1"]);
    x = x + at::linear(at::silu(gate_up.narrow(-1, 0, c.ffn)) * gate_up.narrow(-1, c.ffn, c.ffn),
                       p[at_layer + "linear_fc2"]);
  }
  return at::linear(norm(x, p["final_norm"]), p["lm_head"]);
}

TEST(Transformer, Bf16RecipeIsThePlainModel) {
  Transformer model(small_config(), Recipe{}, {.seed = 3});
  {
    const c10::NoGradGuard no_grad;  // larger weights, so that every part has a say
    for (const NamedParameter& p : model.parameters()) p.tensor.mul_(p.decay ? 6 : 1);
  }
  const at::Tensor tokens = some_tokens(model.config(), 20);
  const at::Tensor expected = plain_logits(model, tokens);
  const at::Tensor found = model.logits(tokens, {}).to(at::kFloat);
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<float>(), 0.02F);
  const at::Tensor loss =
      at::cross_entropy_loss(expected.narrow(1, 0, 19).reshape({-1, 64}), tokens.narrow(1, 1, 19).reshape({-1}));
  EXPECT_NEAR(model.loss_no_grad(tokens, {}).item<float>(), loss.item<float>(), 0.01F * loss.item<float>());
}

TEST(Transformer, LaterTokensChangeNothingBefore) {
  for (const Recipe& recipe : {Recipe{}, ufp4_recipe()}) {
    Transformer model(small_config(), recipe, {.seed = 3});
    const at::Tensor tokens = some_tokens(model.config(), 20);
    const at::Tensor changed = tokens.clone();
    changed.narrow(1, 12, 8).add_(1).remainder_(64);
    const at::Tensor a = model.logits(tokens, {});
    const at::Tensor b = model.logits(changed, {});
    EXPECT_TRUE(a.narrow(1, 0, 12).equal(b.narrow(1, 0, 12)));
    EXPECT_FALSE(a.narrow(1, 12, 1).equal(b.narrow(1, 12, 1)));
  }
}

TEST(Transformer, EveryParameterHasAGradientAndTheLossBeginsAtChance) {
  for (const Recipe& recipe : {Recipe{}, ufp4_recipe()}) {
    Transformer model(small_config(), recipe, {.seed = 3});
    const at::Tensor loss = model.loss(some_tokens(model.config(), 24), {7, 0, 0});
    EXPECT_NEAR(loss.item<float>(), std::log(64.0F), 0.1F);
    loss.backward();
    std::int64_t count = 0;
    for (const NamedParameter& p : model.parameters()) {
      ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
      EXPECT_EQ(p.tensor.grad().scalar_type(), at::kFloat) << p.name;
      EXPECT_GT(p.tensor.grad().norm().item<float>(), 0) << p.name;
      EXPECT_TRUE(std::isfinite(p.tensor.grad().norm().item<float>())) << p.name;
      count += p.tensor.numel();
    }
    EXPECT_EQ(count, parameter_count(model.config()));
  }
}

TEST(Transformer, WhatIsKeptAndTheChunkOfTheLossChangeNothing) {
  const ModelConfig config = small_config();
  Transformer packed(config, ufp4_recipe(), {.seed = 3});
  const at::Tensor tokens = some_tokens(config, 22);
  packed.loss(tokens, {7, 5, 66}).backward();
  const auto expect_same = [&](const TransformerOptions& options) {
    Transformer other(config, ufp4_recipe(), options);
    other.loss(tokens, {7, 5, 66}).backward();
    for (std::size_t i = 0; i < packed.parameters().size(); ++i) {
      EXPECT_TRUE(packed.parameters()[i].tensor.grad().equal(other.parameters()[i].tensor.grad()))
          << packed.parameters()[i].name;
    }
  };
  for (const bool fused : {true, false}) {
    for (const std::int64_t layers : {0, 1, 2}) {
      expect_same({.seed = 3, .stash = Stash::kNone, .fused = fused, .recompute_layers = layers});
      expect_same({.seed = 3, .weight_life = WeightLife::kPass, .fused = fused, .recompute_layers = layers});
      expect_same({.seed = 3, .fused = fused, .offload_layers = 1, .recompute_layers = layers});
    }
  }
  Transformer chunked(config, ufp4_recipe(), {.seed = 3, .loss_chunk = 5});
  EXPECT_NEAR(chunked.loss_no_grad(tokens, {7, 5, 66}).item<float>(),
              packed.loss_no_grad(tokens, {7, 5, 66}).item<float>(), 1e-5);
}

TEST(Transformer, InitialWeightsDependOnSeedAndNameAlone) {
  ModelConfig deeper = small_config();
  deeper.qk_norm = false;
  const Transformer a(small_config(), Recipe{}, {.seed = 3});
  const Transformer b(deeper, ufp4_recipe(), {.seed = 3});
  const Transformer c(small_config(), Recipe{}, {.seed = 4});
  std::map<std::string, at::Tensor> of_b;
  for (const NamedParameter& p : b.parameters()) of_b[p.name] = p.tensor;
  const std::vector<NamedParameter> of_a = a.parameters();
  const std::vector<NamedParameter> of_c = c.parameters();
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    const NamedParameter& p = of_a[i];
    EXPECT_TRUE(of_b.count(p.name) == 0 || p.tensor.equal(of_b[p.name])) << p.name;
    EXPECT_TRUE(!p.decay || !p.tensor.equal(of_c[i].tensor)) << p.name;
  }
  EXPECT_NEAR(of_b["lm_head"].std().item<float>(), 0.02, 0.001);
  EXPECT_NEAR(of_b["layers.0.linear_fc2"].std().item<float>(), 0.01, 0.0005);
  EXPECT_NEAR(of_b["embedding"].mean().item<float>(), 0, 0.001);
}

TEST(Transformer, NamesItsLinearsAndThoseKeptInBf16) {
  Recipe recipe = ufp4_recipe();
  set(recipe, "keep_bf16", "layers.0.*,*.linear_fc2");
  const Transformer model(small_config(), recipe, {});
  EXPECT_EQ(model.linears().size(), 8U);
  EXPECT_EQ(model.linears()[4], "layers.1.linear_qkv");
  EXPECT_EQ(model.bf16_linears(),
            (std::vector<std::string>{"layers.0.linear_qkv", "layers.0.linear_proj", "layers.0.linear_fc1",
                                      "layers.0.linear_fc2", "layers.1.linear_fc2"}));
}

TEST(Transformer, TiedEmbeddingsAreOneParameter) {
  ModelConfig config = small_config();
  config.tie_embeddings = true;
  Transformer model(config, Recipe{}, {});
  std::int64_t count = 0;
  for (const NamedParameter& p : model.parameters()) count += p.tensor.numel();
  EXPECT_EQ(count, parameter_count(config));
  model.loss(some_tokens(config, 8), {}).backward();
  EXPECT_TRUE(model.parameters().front().tensor.grad().defined());
}

TEST(Transformer, WrongTokensAreRefused) {
  Transformer model(small_config(), Recipe{}, {});
  EXPECT_THROW(model.loss(at::ones({1, 5}, at::kInt), {}), InputError);
  EXPECT_THROW(model.loss(at::ones({5}, at::kLong), {}), InputError);
  EXPECT_THROW(model.loss(at::ones({1, 1}, at::kLong), {}), InputError);
  EXPECT_THROW(model.loss(at::ones({1, 5}, at::kLong) * 64, {}), InputError);
  EXPECT_THROW(model.loss(at::ones({1, 5}, at::kLong) * -1, {}), InputError);
  ModelConfig config = small_config();
  config.vocab_size = 0;
  EXPECT_THROW(Transformer(config, Recipe{}, {}), InputError);
}

}  // namespace
}  // namespace ufp4
