#include "model/layers.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>

#include "torch/layer_passes.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// torch's kernels for the backward passes of attention and embedding add with atomics unless they are told not to.
class DeterministicScope {
 public:
  DeterministicScope() {
    context_.setDeterministicAlgorithms(true, false);
    context_.setDeterministicFillUninitializedMemory(false);
  }
  ~DeterministicScope() {
    context_.setDeterministicAlgorithms(algorithms_, false);
    context_.setDeterministicFillUninitializedMemory(fill_);
  }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  at::Context& context_ = at::globalContext();
  bool algorithms_ = context_.deterministicAlgorithms();
  bool fill_ = context_.deterministicFillUninitializedMemory();
};

class EmbeddingFunction : public torch::autograd::Function<EmbeddingFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& weight, const at::Tensor& tokens) {
    ctx->save_for_backward({tokens});
    ctx->saved_data["rows"] = weight.size(0);
    return at::embedding(weight, tokens).to(at::kBFloat16);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const DeterministicScope deterministic;
    return {at::embedding_dense_backward(gradients[0].to(at::kFloat), ctx->get_saved_variables()[0],
                                         ctx->saved_data["rows"].toInt(), -1, false),
            {}};
  }
};

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double epsilon,
                            const std::optional<at::Tensor>& branch) {
    const RmsStatistics of = rms_statistics(x, branch.value_or(at::Tensor()), epsilon);
    ctx->save_for_backward({of.x, of.rstd, weight});
    ctx->saved_data["branch"] = branch.has_value();
    return rms_norm_forward(of, weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [dx, dweight] = rms_norm_backward(gradients[0], {saved[0], saved[1]}, saved[2], {});
    return {dx, dweight, {}, ctx->saved_data["branch"].toBool() ? dx : at::Tensor()};
  }
};

// q [batch, tokens, heads, size], k and v [batch, tokens, kv_heads, size]: [batch, tokens, heads * size].
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t group = q.size(2) / k.size(2);
  // torch's CPU kernel has no grouped queries: there the keys and values are repeated for the heads of their group.
  const bool repeat = group > 1 && q.is_cpu();
  const auto heads_first = [&](const at::Tensor& t) {
    const at::Tensor transposed = t.transpose(1, 2);
    return repeat ? transposed.repeat_interleave(group, 1) : transposed;
  };
  const at::Tensor out = at::scaled_dot_product_attention(q.transpose(1, 2), heads_first(k), heads_first(v),
                                                          std::nullopt, 0.0, true, std::nullopt, group > 1 && !repeat);
  return out.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2) * q.size(3)});
}

struct Heads {
  at::Tensor q, k, v;
};

Heads split_heads(const at::Tensor& qkv, std::int64_t heads) {
  const std::int64_t kv_heads = (qkv.size(2) - heads) / 2;
  return {qkv.narrow(2, 0, heads), qkv.narrow(2, heads, kv_heads), qkv.narrow(2, heads + kv_heads, kv_heads)};
}

// Turns q and k in place.
Heads turned_heads(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads) {
  Heads parts = split_heads(qkv.detach(), heads);
  rotary({{parts.q, true}, {parts.k, true}}, table, 1, qkv);
  return parts;
}

// The part of the graph inside RotaryAttention: torch's attention differentiates itself.
struct AttentionGraph : torch::CustomClassHolder {
  Heads parts;
  at::Tensor out;
};

class RotaryAttention : public torch::autograd::Function<RotaryAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads) {
    auto graph = c10::make_intrusive<AttentionGraph>();
    graph->parts = turned_heads(qkv, table, heads);
    {
      const at::AutoGradMode with_gradients(true);
      for (at::Tensor* part : {&graph->parts.q, &graph->parts.k, &graph->parts.v}) {
        *part = part->detach().set_requires_grad(true);
      }
      graph->out = causal_attention(graph->parts.q, graph->parts.k, graph->parts.v);
    }
    at::Tensor out = graph->out.detach();
    ctx->save_for_backward({table});
    ctx->saved_data["graph"] = c10::IValue::make_capsule(std::move(graph));
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto graph = c10::static_intrusive_pointer_cast<AttentionGraph>(ctx->saved_data["graph"].toCapsule());
    ctx->saved_data.clear();  // nothing of it outlives this call
    const Heads& parts = graph->parts;
    variable_list inner;
    {
      const DeterministicScope deterministic;
      inner = torch::autograd::grad({graph->out}, {parts.q, parts.k, parts.v}, {gradients[0]});
    }
    for (at::Tensor& gradient : inner) gradient = gradient.stride(3) == 1 ? gradient : gradient.contiguous();
    const at::Tensor& q = parts.q;
    const at::Tensor dqkv = at::empty({q.size(0), q.size(1), q.size(2) + 2 * parts.k.size(2), q.size(3)}, q.options());
    rotary({{inner[0], true}, {inner[1], true}, {inner[2], false}}, ctx->get_saved_variables()[0], -1, dqkv);
    return {dqkv, {}, {}};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& weight, const at::Tensor& tokens) {
  return EmbeddingFunction::apply(weight, tokens);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon, const at::Tensor& branch) {
  return RmsNormFunction::apply(x, weight, epsilon, branch.defined() ? std::optional(branch) : std::nullopt);
}

at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device) {
  const at::Tensor exponent = at::arange(0, head_size, 2, at::kDouble) / static_cast<double>(head_size);
  const at::Tensor angle = at::outer(at::arange(tokens, at::kDouble), at::pow(theta, -exponent));
  return at::cat({angle.cos(), angle.sin()}, -1).to(at::kFloat).to(device);
}

at::Tensor rotary_attention(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads) {
  if (at::GradMode::is_enabled() && qkv.requires_grad()) return RotaryAttention::apply(qkv, table, heads);
  const Heads parts = turned_heads(qkv, table, heads);
  return causal_attention(parts.q, parts.k, parts.v);
}

}  // namespace ufp4
