// Sizes that follow from a configuration alone.

#include "config/model_config.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

std::int64_t linear_parameters_per_layer(const ModelConfig& c) {
  return c.d_model * c.qkv_size() + c.d_model * c.attention_size() + 3 * c.d_model * c.ffn;
}

void need_vocabulary(const ModelConfig& c) {
  if (c.vocab_size <= 0) throw InputError("model key 'vocab_size' is 0: it is known only with the data");
}

}  // namespace

std::int64_t padded_vocabulary(std::int64_t tokens) { return (tokens + 63) / 64 * 64; }

std::int64_t non_embedding_parameter_count(const ModelConfig& c) {
  const bool each_head = c.qk_norm_width == QkNormWidth::kHead;
  const std::int64_t qk_norms = c.head_size() * (each_head ? 2 : c.heads + c.kv_head_count());
  const std::int64_t vectors = 2 * c.d_model + (c.qk_norm ? qk_norms : 0) + (c.qkv_bias ? c.qkv_size() : 0);
  return c.layers * (linear_parameters_per_layer(c) + vectors) + c.d_model;
}

std::int64_t parameter_count(const ModelConfig& c) {
  need_vocabulary(c);
  return non_embedding_parameter_count(c) + (c.tie_embeddings ? 1 : 2) * c.vocab_size * c.d_model;
}

double training_flops_per_token(const ModelConfig& c) {
  need_vocabulary(c);
  const auto gemm_parameters =
      static_cast<double>(c.layers * linear_parameters_per_layer(c) + c.vocab_size * c.d_model);
  // Q K^T and P V: 2 * attention_size each for every one of (context / 2) earlier tokens; backward costs twice the
  // forward.
  const double attention =
      6.0 * static_cast<double>(c.layers) * static_cast<double>(c.context) * static_cast<double>(c.attention_size());
  return 6 * gemm_parameters + attention;
}

double fc1_result_bytes(const ModelConfig& c, std::int64_t tokens) {
  return 2 * static_cast<double>(tokens) * static_cast<double>(2 * c.ffn);
}

double activation_bytes(const ModelConfig& c, std::int64_t tokens, double stash, std::int64_t keeping) {
  const auto d = static_cast<double>(c.d_model);
  const auto f = static_cast<double>(c.ffn);
  const auto qkv = static_cast<double>(c.qkv_size());
  const auto attended = static_cast<double>(c.attention_size());
  const double repeated =
      static_cast<double>(2 * (c.heads - c.kv_head_count()) * c.head_size());  // keys and values of groups
  const double layer = 2 * (2 * d)                                             // inputs of the two norms
                       + stash * (2 * d + f)                                   // inputs of the linears but linear_proj
                       + 2 * (qkv + attended + repeated);  // queries, keys, values, attention output
  const double working = 2 * (6 * f + 4 * d + 2 * qkv);    // of the layer at hand, forward or backward
  return static_cast<double>(tokens) * (static_cast<double>(c.layers) * layer + working + 4 * d) +
         static_cast<double>(keeping) * fc1_result_bytes(c, tokens);
}

}  // namespace ufp4
