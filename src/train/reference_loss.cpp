#include "train/reference_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>

#include "model/attention.h"

namespace ufp4 {
namespace {

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return x * at::rsqrt((x * x).mean(-1, true) + epsilon) * weight;
}

// Pairs (i, i + size / 2) turned by the angle of their token: heads [B, T, heads, size], table [T, size].
at::Tensor turned(const at::Tensor& heads, const at::Tensor& table) {
  const std::int64_t half = heads.size(3) / 2;
  const at::Tensor angles = table.narrow(0, 0, heads.size(1)).unsqueeze(1);
  const at::Tensor cosine = angles.narrow(2, 0, half);
  const at::Tensor sine = angles.narrow(2, half, half);
  const at::Tensor first = heads.narrow(3, 0, half);
  const at::Tensor second = heads.narrow(3, half, half);
  return at::cat({first * cosine - second * sine, second * cosine + first * sine}, 3);
}

}  // namespace

at::Tensor reference_loss(const ModelConfig& config, const std::map<std::string, at::Tensor>& parameters,
                          const at::Tensor& tokens) {
  const auto parameter = [&](const std::string& name) -> const at::Tensor& { return parameters.at(name); };
  const std::int64_t length = tokens.size(1) - 1;
  const std::int64_t heads = config.heads;
  const std::int64_t kv_heads = config.kv_head_count();
  const at::Tensor& embedding = parameter("embedding");
  const at::Tensor table = rotary_table(length, config.head_size(), config.rope_theta, embedding.device(), config.rope);
  at::Tensor stream = at::embedding(embedding, tokens.narrow(1, 0, length));  // [B, T, D]
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "layers." + std::to_string(i) + ".";
    // A norm of a block stands before its sublayer, or before what that adds.
    const auto normed = [&](const at::Tensor& x, const char* name, NormPlace place) {
      return config.norm_place == place ? norm(x, parameter(prefix + name), config.norm_epsilon) : x;
    };
    const at::Tensor x = normed(stream, "attention_norm", NormPlace::kBefore);
    const std::optional<at::Tensor> bias =
        config.qkv_bias ? std::optional(parameter(prefix + "qkv_bias")) : std::nullopt;
    const at::Tensor qkv = at::linear(x, parameter(prefix + "linear_qkv"), bias)
                               .view({x.size(0), length, config.qkv_heads(), config.head_size()});
    at::Tensor q = qkv.narrow(2, 0, heads);
    at::Tensor k = qkv.narrow(2, heads, kv_heads);
    at::Tensor v = qkv.narrow(2, heads + kv_heads, kv_heads);
    if (config.qk_norm) {
      const auto qk_norm = [&](const at::Tensor& part, const char* name) {
        const at::Tensor& weight = parameter(prefix + name);
        if (config.qk_norm_width == QkNormWidth::kHead) return norm(part, weight, config.norm_epsilon);
        return norm(part.flatten(2, 3), weight, config.norm_epsilon).view(part.sizes());
      };
      q = qk_norm(q, "q_norm");
      k = qk_norm(k, "k_norm");
    }
    const std::int64_t group = heads / kv_heads;
    q = turned(q, table).transpose(1, 2);
    k = turned(k, table).repeat_interleave(group, 2).transpose(1, 2);
    v = v.repeat_interleave(group, 2).transpose(1, 2);
    const at::Tensor attended = at::scaled_dot_product_attention(q, k, v, std::nullopt, 0.0, true);
    const at::Tensor projected = at::linear(attended.transpose(1, 2).flatten(2, 3), parameter(prefix + "linear_proj"));
    stream = stream + normed(projected, "attention_norm", NormPlace::kAfter);
    const at::Tensor y = normed(stream, "ffn_norm", NormPlace::kBefore);
    const at::Tensor h = at::linear(y, parameter(prefix + "linear_fc1"));
    const at::Tensor activated = at::silu(h.narrow(-1, 0, config.ffn)) * h.narrow(-1, config.ffn, config.ffn);
    stream = stream + normed(at::linear(activated, parameter(prefix + "linear_fc2")), "ffn_norm", NormPlace::kAfter);
  }
  const at::Tensor hidden = norm(stream, parameter("final_norm"), config.norm_epsilon);
  const at::Tensor logits = at::linear(hidden, config.tie_embeddings ? embedding : parameter("lm_head"));
  return at::cross_entropy_loss(logits.view({-1, logits.size(-1)}), tokens.narrow(1, 1, length).reshape({-1}));
}

}  // namespace ufp4
