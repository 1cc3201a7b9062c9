#include "model/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <utility>

#include "model/deterministic.h"
#include "torch/source.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kTurn = 2 * std::numbers::pi;

// q [batch, tokens, heads, size], k and v [batch, tokens, kv_heads, size]: [batch, tokens, heads * size]. `seen`
// [tokens of q, tokens of k] says what a token sees; without it, itself and the ones before.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& seen = std::nullopt) {
  const std::int64_t group = q.size(2) / k.size(2);
  // torch's CPU kernel has no grouped queries: there the keys and values are repeated for the heads of their group.
  const bool repeat = group > 1 && q.is_cpu();
  const auto heads_first = [&](const at::Tensor& t) {
    const at::Tensor transposed = t.transpose(1, 2);
    return repeat ? transposed.repeat_interleave(group, 1) : transposed;
  };
  const at::Tensor out = at::scaled_dot_product_attention(q.transpose(1, 2), heads_first(k), heads_first(v), seen, 0.0,
                                                          !seen, std::nullopt, group > 1 && !repeat);
  return out.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2) * q.size(3)});
}

struct KeptAttention : torch::CustomClassHolder {
  explicit KeptAttention(Attention a) : attention(std::move(a)) {}
  Attention attention;
};

class RotaryAttention : public torch::autograd::Function<RotaryAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads) {
    auto kept = c10::make_intrusive<KeptAttention>(attend(qkv, table, heads, true));
    at::Tensor out = kept->attention.out.detach();
    ctx->save_for_backward({table});
    ctx->saved_data["shape"] = qkv.sizes().vec();
    ctx->saved_data["kept"] = c10::IValue::make_capsule(std::move(kept));
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto kept = c10::static_intrusive_pointer_cast<KeptAttention>(ctx->saved_data["kept"].toCapsule());
    const std::vector<std::int64_t> shape = ctx->saved_data["shape"].toIntVector();
    ctx->saved_data.clear();  // nothing of it outlives this call
    const at::Tensor table = ctx->get_saved_variables()[0];
    const at::Tensor dqkv = Source::rotary_backward(attention_backward(kept->attention, gradients[0]), table).compute();
    return {dqkv.view(shape), {}, {}};
  }
};

// The frequencies of the pairs, [size / 2], as `rope` changes them.
at::Tensor stretched(const at::Tensor& frequency, double theta, const RopeSettings& rope) {
  if (rope.scaling == RopeScaling::kNone) return frequency;
  const at::Tensor slow = frequency / rope.factor;
  if (rope.scaling == RopeScaling::kLinear) return slow;
  const auto original = static_cast<double>(rope.original_context);
  at::Tensor kept;  // the share of each frequency that stays
  if (rope.scaling == RopeScaling::kLlama3) {
    const at::Tensor turns = frequency * (original / kTurn);
    kept = (turns - rope.low_factor) / (rope.high_factor - rope.low_factor);
  } else {
    // The pair, as a real number, that turns so often in the original context; the ramp runs over whole pairs.
    const auto pairs = static_cast<double>(frequency.numel());
    const auto pair_of = [&](double turns) { return pairs * std::log(original / (turns * kTurn)) / std::log(theta); };
    const double first = std::max(std::floor(pair_of(rope.beta_fast)), 0.0);
    double last = std::min(std::ceil(pair_of(rope.beta_slow)), 2 * pairs - 1);
    if (first == last) last += 0.001;
    kept = 1 - (at::arange(frequency.numel(), at::kDouble) - first) / (last - first);
  }
  kept = kept.clamp(0, 1);
  return kept * frequency + (1 - kept) * slow;
}

double attention_factor(const RopeSettings& rope) {
  return rope.attention_factor > 0 ? rope.attention_factor : 0.1 * std::log(rope.factor) + 1;
}

}  // namespace

at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device,
                        const RopeSettings& rope) {
  const at::Tensor exponent = at::arange(0, head_size, 2, at::kDouble) / static_cast<double>(head_size);
  const at::Tensor frequency = stretched(at::pow(theta, -exponent), theta, rope);
  const at::Tensor angle = at::outer(at::arange(tokens, at::kDouble), frequency);
  const at::Tensor table = at::cat({angle.cos(), angle.sin()}, -1);
  return (rope.scaling == RopeScaling::kYarn ? table * attention_factor(rope) : table).to(at::kFloat).to(device);
}

Attention attend(const at::Tensor& any_qkv, const at::Tensor& table, std::int64_t heads, bool keep) {
  const at::Tensor qkv = any_qkv.detach();
  const std::int64_t kv_heads = (qkv.size(2) - heads) / 2;
  Attention result{
      qkv.narrow(2, 0, heads), qkv.narrow(2, heads, kv_heads), qkv.narrow(2, heads + kv_heads, kv_heads), {}};
  rotary({{result.q, true}, {result.k, true}}, table, 1, qkv);
  const at::AutoGradMode differentiate(keep);
  for (at::Tensor* part : {&result.q, &result.k, &result.v}) *part = part->detach().set_requires_grad(keep);
  result.out = causal_attention(result.q, result.k, result.v);
  return result;
}

at::Tensor attend_cached(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads, KeyValueCache& cache,
                         std::int64_t past) {
  const std::int64_t tokens = qkv.size(1);
  const std::int64_t kv_heads = (qkv.size(2) - heads) / 2;
  const at::Tensor q = qkv.narrow(2, 0, heads);
  const at::Tensor k = qkv.narrow(2, heads, kv_heads);
  rotary({{q, true}, {k, true}}, table.narrow(0, past, tokens), 1, qkv);
  cache.k.narrow(1, past, tokens).copy_(k);
  cache.v.narrow(1, past, tokens).copy_(qkv.narrow(2, heads + kv_heads, kv_heads));
  const at::Tensor all_k = cache.k.narrow(1, 0, past + tokens);
  const at::Tensor all_v = cache.v.narrow(1, 0, past + tokens);
  if (past == 0) return causal_attention(q, all_k, all_v);
  const at::Tensor seen = at::ones({tokens, past + tokens}, q.options().dtype(at::kBool)).tril(past);
  return causal_attention(q, all_k, all_v, seen);
}

std::vector<RotaryHeads> attention_backward(const Attention& of, const at::Tensor& dout) {
  const DeterministicScope deterministic;
  variable_list gradients = torch::autograd::grad({of.out}, {of.q, of.k, of.v}, {dout});
  for (at::Tensor& gradient : gradients) gradient = gradient.stride(3) == 1 ? gradient : gradient.contiguous();
  return {{gradients[0], true}, {gradients[1], true}, {gradients[2], false}};
}

at::Tensor rotary_attention(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads) {
  if (at::GradMode::is_enabled() && qkv.requires_grad()) return RotaryAttention::apply(qkv, table, heads);
  return attend(qkv, table, heads, false).out;
}

}  // namespace ufp4
