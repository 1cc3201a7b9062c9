#include "torch/layer_passes.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>

#include "torch/bf16_rows.h"
#include "torch/cpu_layers.h"
#include "torch/kernels.h"
#include "torch/layer_kernels.h"

namespace ufp4 {
namespace {

using cpu_layers::Bf16;

// Rows whose share of the weight's gradient is summed first. Fixed, so that the bits do not depend on threads.
constexpr std::int64_t kNormRows = 256;

// The kernels of a tensor's device, which is torch's current one while this lives.
class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& t) : guard_(t.device()), kernels_(layer_kernels_of(t.device())) {}
  const LayerKernels* operator->() const { return &kernels_; }

 private:
  c10::DeviceGuard guard_;
  const LayerKernels& kernels_;
};

const Bf16* row_of(const at::Tensor& t, std::int64_t row) {
  return t.defined() ? bf16_input(t) + row * t.size(-1) : nullptr;
}

at::Tensor dense(const at::Tensor& t) { return t.defined() ? t.contiguous() : t; }

// x without the second half of its last axis.
at::Tensor empty_half(const at::Tensor& x) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() /= 2;
  return at::empty(shape, x.options());
}

void rms_statistics_on_cpu(const at::Tensor& x, const at::Tensor& branch, double epsilon, const at::Tensor& sum,
                           const at::Tensor& rstd) {
  const std::int64_t size = x.size(-1);
  at::parallel_for(0, rows_of(x), kNormRows, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::rms_statistics(row_of(x, begin), row_of(branch, begin), epsilon, end - begin, size,
                               bf16_output(sum) + begin * size, rstd.mutable_data_ptr<float>() + begin);
  });
}

RmsNormGradients rms_norm_backward_on_cpu(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                                          const at::Tensor& residual) {
  const std::int64_t size = of.x.size(-1);
  const std::int64_t rows = rows_of(of.x);
  const std::int64_t parts = (rows + kNormRows - 1) / kNormRows;
  const at::Tensor dx = at::empty_like(of.x);
  const at::Tensor dweight = at::zeros({parts, size}, weight.options());
  at::parallel_for(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      const std::int64_t first = part * kNormRows;
      cpu_layers::rms_norm_backward(row_of(of.x, first), weight.const_data_ptr<float>(),
                                    of.rstd.const_data_ptr<float>() + first, row_of(dy, first), row_of(residual, first),
                                    std::min(kNormRows, rows - first), size, bf16_output(dx) + first * size,
                                    dweight.mutable_data_ptr<float>() + part * size);
    }
  });
  return {dx, dweight.sum(0)};
}

void rotary_on_cpu(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction,
                   const at::Tensor& to) {
  const std::int64_t tokens = to.size(1);
  const std::int64_t size = to.size(3);
  at::parallel_for(0, to.size(0) * tokens, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t t = i % tokens;
      const float* cos = table.const_data_ptr<float>() + t * size;
      Bf16* out = bf16_output(to) + i * to.size(2) * size;
      for (const auto& [heads, turned] : parts) {
        const Bf16* from = bf16_input(heads) + i / tokens * heads.stride(0) + t * heads.stride(1);
        const std::int64_t count = heads.size(2);
        if (turned) {
          cpu_layers::rotate(from, heads.stride(2), cos, cos + size / 2, direction, count, size / 2, out);
        } else if (from != out) {
          for (std::int64_t h = 0; h < count; ++h) std::copy_n(from + h * heads.stride(2), size, out + h * size);
        }
        out += count * size;
      }
    }
  });
}

}  // namespace

RmsStatistics rms_statistics(const at::Tensor& any_x, const at::Tensor& any_branch, double epsilon) {
  const at::Tensor x = dense(any_x);
  const at::Tensor branch = dense(any_branch);
  const at::Tensor rstd = at::empty({rows_of(x)}, x.options().dtype(at::kFloat));
  const at::Tensor sum = branch.defined() ? at::empty_like(x) : x;
  if (x.is_cpu()) {
    rms_statistics_on_cpu(x, branch, epsilon, sum, rstd);
  } else {
    OnDevice(x)->rms_statistics(x, branch, epsilon, sum, rstd);
  }
  return {sum, rstd};
}

at::Tensor rms_norm_forward(const RmsStatistics& of, const at::Tensor& weight) {
  at::Tensor y = at::empty_like(of.x);
  const std::int64_t size = of.x.size(-1);
  if (!of.x.is_cpu()) {
    OnDevice(of.x)->rms_norm(of, weight, y);
    return y;
  }
  at::parallel_for(0, rows_of(of.x), kNormRows, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::rms_norm(row_of(of.x, begin), weight.const_data_ptr<float>(), of.rstd.const_data_ptr<float>() + begin,
                         end - begin, size, bf16_output(y) + begin * size);
  });
  return y;
}

RmsNormGradients rms_norm_backward(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                                   const at::Tensor& residual) {
  if (of.x.is_cpu()) return rms_norm_backward_on_cpu(dense(dy), of, weight, dense(residual));
  RmsNormGradients result{at::empty_like(of.x), at::empty_like(weight)};
  OnDevice(of.x)->rms_norm_backward(dense(dy), of, weight, dense(residual), result);
  return result;
}

at::Tensor swiglu_forward(const at::Tensor& any_h) {
  const at::Tensor h = dense(any_h);
  at::Tensor y = empty_half(h);
  if (!h.is_cpu()) {
    OnDevice(h)->swiglu(h, y);
    return y;
  }
  at::parallel_for(0, rows_of(h), 16, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::swiglu(row_of(h, begin), end - begin, y.size(-1), bf16_output(y) + begin * y.size(-1));
  });
  return y;
}

at::Tensor swiglu_backward(const at::Tensor& any_dy, const at::Tensor& any_h) {
  const at::Tensor h = dense(any_h);
  const at::Tensor dy = dense(any_dy);
  at::Tensor dh = at::empty_like(h);
  if (!h.is_cpu()) {
    OnDevice(h)->swiglu_backward(dy, h, dh);
    return dh;
  }
  at::parallel_for(0, rows_of(h), 16, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::swiglu_backward(row_of(h, begin), row_of(dy, begin), end - begin, dy.size(-1),
                                bf16_output(dh) + begin * h.size(-1));
  });
  return dh;
}

void rotary(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction, const at::Tensor& to) {
  if (to.is_cpu()) {
    rotary_on_cpu(parts, table, direction, to);
  } else {
    OnDevice(to)->rotary(parts, table, direction, to);
  }
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets, bool gradient, double scale) {
  if (!logits.is_cpu()) {
    at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
    OnDevice(logits)->cross_entropy(logits, targets, losses, gradient, scale);
    return losses;
  }
  const at::Tensor target = targets.unsqueeze(1);
  at::Tensor wide = logits.to(at::kFloat);
  const at::Tensor log_sum = at::logsumexp(wide, 1, true);
  at::Tensor losses = (log_sum - wide.gather(1, target)).squeeze(1);
  if (gradient) {
    wide.sub_(log_sum).exp_();
    wide.scatter_add_(1, target, at::empty_like(log_sum).fill_(-1));
    logits.copy_(wide.mul_(scale));
  }
  return losses;
}

}  // namespace ufp4
