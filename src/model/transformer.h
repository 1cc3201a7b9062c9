// A decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU; its variants are keys of ModelConfig. The four linears of
// a block follow a recipe; embedding, LM head, norms and attention products stay in BF16; parameters are FP32.
//
// Names of the linears, as in the paper: layers.<i>.linear_qkv, .linear_proj, .linear_fc1 (gate and up), .linear_fc2.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "model/attention.h"
#include "torch/quantized_linear.h"
#include "torch/random_context.h"
#include "ufp4/recipe.h"

namespace ufp4 {

struct TransformerOptions {
  std::uint64_t seed = 0;  // of the initial weights
  at::Device device = at::kCPU;
  Stash stash = Stash::kPacked;
  WeightLife weight_life = WeightLife::kStep;
  bool fused = true;                                 // SublayerOptions::fused
  std::int64_t offload_layers = 0;                   // from the first on, but never all: SublayerOptions::offload
  std::int64_t recompute_layers = 0;                 // after those: SublayerOptions::recompute
  std::shared_ptr<const ChosenProducts> products{};  // of the linears; null: emulated
  std::int64_t loss_chunk = 0;  // tokens whose logits exist at a time; 0: chosen from the vocabulary
};

struct NamedParameter {
  std::string name;   // "embedding", "layers.0.linear_qkv", "layers.0.attention_norm", "final_norm", "lm_head"
  at::Tensor tensor;  // FP32 leaf with requires_grad
  bool decay;         // whether weight decay applies: matrices yes, norms and biases no
};

// The sides of the linears' weights, for choose_products.
std::vector<std::int64_t> linear_sides(const ModelConfig& config);

// A text that grows: what its tokens so far leave for the next ones.
struct Decoding {
  std::vector<KeyValueCache> layers;
  std::int64_t capacity = 0;  // tokens
  std::int64_t past = 0;
};

class Transformer {
 public:
  // Initial weights depend on (seed, parameter name) only: they are equal for all recipes and all devices. Throws
  // InputError for a configuration or a recipe that is not valid.
  Transformer(const ModelConfig& config, const Recipe& recipe, const TransformerOptions& options);
  ~Transformer();
  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;

  const ModelConfig& config() const;
  const Recipe& recipe() const;

  // All parameters in a fixed order. The tensors share storage with the model: an optimizer or a checkpoint writes them
  // in place (under NoGradGuard).
  std::vector<NamedParameter> parameters() const;
  // Names of the linears that take part in quantization, in model order: number l draws from streams 8 * l ...
  std::vector<std::string> linears() const;
  // Those of them that the recipe keeps in BF16.
  std::vector<std::string> bf16_linears() const;
  // Whether what linear `number` makes is added to the residual stream, with no norm between.
  bool adds_to_stream(std::size_t number) const;

  // Mean cross-entropy in nats of predicting tokens[:, 1:] from tokens[:, :-1]; tokens [B, T + 1], int64.
  // Differentiable.
  at::Tensor loss(const at::Tensor& tokens, const RandomContext& context);
  // The same value without anything kept for a backward pass.
  at::Tensor loss_no_grad(const at::Tensor& tokens, const RandomContext& context);
  // Logits [B, T, vocab_size] in BF16 of tokens [B, T].
  at::Tensor logits(const at::Tensor& tokens, const RandomContext& context);

  // Of predicting tokens[:, 1:] from tokens[:, :-1], in nats, FP32 [B, T]; nothing is kept for a backward pass.
  at::Tensor token_losses(const at::Tensor& tokens, const RandomContext& context);
  // Logits [vocab_size] in BF16 of what follows the last of `tokens` [1, T], which stand behind those of earlier calls
  // with this `decoding`. Throws InputError beyond its capacity.
  at::Tensor extend(const at::Tensor& tokens, Decoding& decoding, const RandomContext& context);
  // For a text of up to `capacity` tokens.
  Decoding begin_decoding(std::int64_t capacity) const;

  // Floating-point operations to train one token at the configured context.
  double flops_per_token() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ufp4
