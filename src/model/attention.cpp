#include "model/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>

#include "model/deterministic.h"
#include "torch/source.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

}  // namespace

at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device) {
  const at::Tensor exponent = at::arange(0, head_size, 2, at::kDouble) / static_cast<double>(head_size);
  const at::Tensor angle = at::outer(at::arange(tokens, at::kDouble), at::pow(theta, -exponent));
  return at::cat({angle.cos(), angle.sin()}, -1).to(at::kFloat).to(device);
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
