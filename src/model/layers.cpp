#include "model/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>

#include <optional>

namespace ufp4 {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor inverse = at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (wide * inverse * weight).to(at::kBFloat16);
}

at::Tensor swiglu(const at::Tensor& x) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor gate = x.narrow(-1, 0, half).to(at::kFloat);
  return (at::silu(gate) * x.narrow(-1, half, half)).to(at::kBFloat16);
}

at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device) {
  const at::Tensor exponent = at::arange(0, head_size, 2, at::kDouble) / static_cast<double>(head_size);
  const at::Tensor angle = at::outer(at::arange(tokens, at::kDouble), at::pow(theta, -exponent));
  return at::cat({angle.cos(), angle.sin()}, -1).to(at::kFloat).to(device);
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& table) {
  const std::int64_t half = x.size(3) / 2;
  const at::Tensor cos = table.narrow(0, 0, x.size(1)).narrow(1, 0, half).unsqueeze(1);
  const at::Tensor sin = table.narrow(0, 0, x.size(1)).narrow(1, half, half).unsqueeze(1);
  const at::Tensor a = x.narrow(3, 0, half).to(at::kFloat);
  const at::Tensor b = x.narrow(3, half, half).to(at::kFloat);
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(at::kBFloat16);
}

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

}  // namespace ufp4
