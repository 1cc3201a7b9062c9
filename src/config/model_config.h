// The shape of a transformer, from a TOML file or by name.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/key.h"

namespace ufp4 {

// How the angles of the rotary positions are stretched for contexts beyond the one they were trained with.
enum class RopeScaling : std::uint8_t { kNone, kLinear, kLlama3, kYarn };
// Where a block's two norms stand: before its sublayers, or before what they add to the residual stream.
enum class NormPlace : std::uint8_t { kBefore, kAfter };
// What one RMSNorm of qk_norm is taken over: a head, or all heads of a token.
enum class QkNormWidth : std::uint8_t { kHead, kAll };

template <>
struct Names<RopeScaling> {
  static constexpr std::array<std::string_view, 4> list{"none", "linear", "llama3", "yarn"};
};
template <>
struct Names<NormPlace> {
  static constexpr std::array<std::string_view, 2> list{"before", "after"};
};
template <>
struct Names<QkNormWidth> {
  static constexpr std::array<std::string_view, 2> list{"head", "all"};
};

// The settings that a kind of scaling takes; others are not looked at.
struct RopeSettings {
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;                  // of the context
  std::int64_t original_context = 0;  // tokens that the angles were made for (llama3, yarn)
  double low_factor = 1;              // llama3: wavelengths beyond original_context / low_factor are stretched in full
  double high_factor = 4;             // those below original_context / high_factor are not
  double beta_fast = 32;              // yarn: turns in the original context from which on nothing is stretched
  double beta_slow = 1;               // and up to which all is
  double attention_factor = 0;        // yarn: of cosines and sines; 0: 0.1 ln(factor) + 1
};

struct ModelConfig {
  std::string name = "custom";
  std::string summary;
  std::int64_t vocab_size = 0;  // 0: that of the data, rounded up to a multiple of 64
  std::int64_t d_model = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // 0: as many as heads; fewer: grouped-query attention
  std::int64_t ffn = 0;       // width inside the SwiGLU
  std::int64_t context = 0;   // tokens a sequence is trained with
  double rope_theta = 10000;
  double norm_epsilon = 1e-5;
  std::int64_t given_head_size = 0;  // 0: d_model / heads
  bool qk_norm = false;              // RMSNorm of queries and keys
  QkNormWidth qk_norm_width = QkNormWidth::kHead;
  NormPlace norm_place = NormPlace::kBefore;
  bool qkv_bias = false;        // a bias of queries, keys and values
  bool tie_embeddings = false;  // the LM head is the embedding
  RopeSettings rope;

  std::int64_t head_size() const { return given_head_size > 0 ? given_head_size : d_model / heads; }
  std::int64_t attention_size() const { return heads * head_size(); }              // what attention makes of a token
  std::int64_t kv_head_count() const { return kv_heads == 0 ? heads : kv_heads; }  // of keys, and as many of values
  std::int64_t qkv_heads() const { return heads + 2 * kv_head_count(); }
  std::int64_t qkv_size() const { return qkv_heads() * head_size(); }  // what linear_qkv makes of a token
};

std::span<const Key<ModelConfig>> model_keys();

// The names compiled in: "tiny", "10m", .. in order of size.
std::vector<std::string_view> model_names();

// The TOML text of a name compiled in. Throws InputError with a near name.
std::string_view model_text(std::string_view name);

// A name compiled in, or the path of a TOML file (anything with a '/' or that ends in ".toml"). The result is
// validated. Throws InputError that names the file, the key and a near key.
ModelConfig load_model_config(const std::string& name_or_path);

// Parses TOML; `source` stands for the file in messages. Does not validate.
ModelConfig parse_model_config(std::string_view toml, std::string_view source);

// Sets one key to a value given as text, as in --set model.layers=4. Throws InputError. Validate afterwards.
void set(ModelConfig& config, std::string_view key, std::string_view value);

// Throws InputError that names the key, what was found and what was expected: sizes that are absent, negative or
// absurd, heads that do not divide d_model, .. . Nothing is allocated. vocab_size may still be 0.
void validate(const ModelConfig& config);

// The configuration as `key = value` pairs that set() accepts, every key once, in a fixed order.
std::vector<std::pair<std::string, std::string>> entries(const ModelConfig& config);

// The vocabulary of a model for data with `tokens` different tokens: rounded up to a multiple of 64.
std::int64_t padded_vocabulary(std::int64_t tokens);

// Number of parameters; needs vocab_size (the non-embedding count does not).
std::int64_t parameter_count(const ModelConfig& config);
std::int64_t non_embedding_parameter_count(const ModelConfig& config);

// Floating-point operations to train one token of a sequence of `context` tokens: 6 a parameter in a GEMM and causal
// attention, forward and backward.
double training_flops_per_token(const ModelConfig& config);

// Bytes that a forward and backward pass over a micro-batch keeps: an estimate from above, where a linear keeps `stash`
// bytes of every element it reads, and `keeping` of the layers keep the result of fc1; without the loss (loss_bytes),
// parameters, gradients and optimizer state.
double activation_bytes(const ModelConfig& config, std::int64_t tokens, double stash, std::int64_t keeping);
// Bytes of one layer's result of fc1, in BF16.
double fc1_result_bytes(const ModelConfig& config, std::int64_t tokens);

}  // namespace ufp4
