#include "model/layers.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "model/cpu_layers.h"

// On the CPU, norm, SwiGLU and rotation are one pass over memory forward and one backward (cpu_layers.h); elsewhere
// they are compositions of torch's operators.

namespace ufp4 {
namespace {

using cpu_layers::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows whose share of the weight's gradient is summed first. Fixed, so that the bits do not depend on threads.
constexpr std::int64_t kNormRows = 256;

const Bf16* input(const at::Tensor& t) { return static_cast<const Bf16*>(t.const_data_ptr()); }
Bf16* output(const at::Tensor& t) { return static_cast<Bf16*>(t.mutable_data_ptr()); }

bool runs_on_cpu(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kBFloat16; }

std::int64_t rows_of(const at::Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

class CpuRmsNorm : public torch::autograd::Function<CpuRmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& any_x, const at::Tensor& weight, double epsilon) {
    const at::Tensor x = any_x.contiguous();
    const std::int64_t size = x.size(-1);
    const at::Tensor y = at::empty_like(x);
    const at::Tensor inverse = at::empty({rows_of(x)}, weight.options());
    at::parallel_for(0, rows_of(x), kNormRows, [&](std::int64_t begin, std::int64_t end) {
      cpu_layers::rms_norm(input(x) + begin * size, weight.const_data_ptr<float>(), epsilon, end - begin, size,
                           output(y) + begin * size, inverse.mutable_data_ptr<float>() + begin);
    });
    ctx->save_for_backward({x, weight, inverse});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& x = saved[0];
    const std::int64_t size = x.size(-1);
    const std::int64_t rows = rows_of(x);
    const std::int64_t parts = (rows + kNormRows - 1) / kNormRows;
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor dx = at::empty_like(x);
    const at::Tensor dweight = at::zeros({parts, size}, saved[1].options());
    at::parallel_for(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t part = begin; part < end; ++part) {
        const std::int64_t first = part * kNormRows;
        cpu_layers::rms_norm_backward(input(x) + first * size, saved[1].const_data_ptr<float>(),
                                      saved[2].const_data_ptr<float>() + first, input(dy) + first * size,
                                      std::min(kNormRows, rows - first), size, output(dx) + first * size,
                                      dweight.mutable_data_ptr<float>() + part * size);
      }
    });
    return {dx, dweight.sum(0), {}};
  }
};

class CpuSwiglu : public torch::autograd::Function<CpuSwiglu> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& any_x) {
    const at::Tensor x = any_x.contiguous();
    const std::int64_t half = x.size(-1) / 2;
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = half;
    const at::Tensor y = at::empty(shape, x.options());
    at::parallel_for(0, rows_of(x), 16, [&](std::int64_t begin, std::int64_t end) {
      cpu_layers::swiglu(input(x) + 2 * begin * half, end - begin, half, output(y) + begin * half);
    });
    ctx->save_for_backward({x});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const std::int64_t half = x.size(-1) / 2;
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor dx = at::empty_like(x);
    at::parallel_for(0, rows_of(x), 16, [&](std::int64_t begin, std::int64_t end) {
      cpu_layers::swiglu_backward(input(x) + 2 * begin * half, input(dy) + begin * half, end - begin, half,
                                  output(dx) + 2 * begin * half);
    });
    return {dx};
  }
};

// x [B, T, H, S] of any strides but 1 along S, turned forward or, with -1, back.
at::Tensor cpu_rotate(const at::Tensor& any_x, const at::Tensor& table, float direction) {
  const at::Tensor x = any_x.stride(3) == 1 ? any_x : any_x.contiguous();
  const std::int64_t tokens = x.size(1);
  const std::int64_t heads = x.size(2);
  const std::int64_t size = x.size(3);
  const at::Tensor y = at::empty(x.sizes(), x.options());
  at::parallel_for(0, x.size(0) * tokens, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t t = i % tokens;
      const float* cos = table.const_data_ptr<float>() + t * size;
      cpu_layers::rotate(input(x) + i / tokens * x.stride(0) + t * x.stride(1), x.stride(2), cos, cos + size / 2,
                         direction, heads, size / 2, output(y) + i * heads * size);
    }
  });
  return y;
}

class CpuRotate : public torch::autograd::Function<CpuRotate> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& table) {
    ctx->save_for_backward({table});
    return cpu_rotate(x, table, 1);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    return {cpu_rotate(gradients[0], ctx->get_saved_variables()[0], -1), {}};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  if (runs_on_cpu(x)) return CpuRmsNorm::apply(x, weight, epsilon);
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor inverse = at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (wide * inverse * weight).to(at::kBFloat16);
}

at::Tensor swiglu(const at::Tensor& x) {
  if (runs_on_cpu(x)) return CpuSwiglu::apply(x);
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
  if (runs_on_cpu(x)) return CpuRotate::apply(x, table);
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
