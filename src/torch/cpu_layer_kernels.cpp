// The layers between the linears on the CPU, over torch's threads.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "torch/bf16_rows.h"
#include "torch/cpu_layers.h"
#include "torch/device_kernels.h"

namespace ufp4::cpu_kernels {
namespace {

using cpu_layers::Bf16;

// Rows whose share of the weight's gradient is summed first. Fixed, so that the bits do not depend on threads.
constexpr std::int64_t kNormRows = 256;

const Bf16* row_of(const at::Tensor& t, std::int64_t row) {
  return t.defined() ? bf16_input(t) + row * t.size(-1) : nullptr;
}

void rms_statistics(const at::Tensor& x, const at::Tensor& branch, double epsilon, const at::Tensor& sum,
                    const at::Tensor& rstd) {
  const std::int64_t size = x.size(-1);
  at::parallel_for(0, rows_of(x), kNormRows, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::rms_statistics(row_of(x, begin), row_of(branch, begin), epsilon, end - begin, size,
                               bf16_output(sum) + begin * size, rstd.mutable_data_ptr<float>() + begin);
  });
}

void rms_norm_backward(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                       const at::Tensor& residual, const RmsNormGradients& result) {
  const std::int64_t size = of.x.size(-1);
  const std::int64_t rows = rows_of(of.x);
  const std::int64_t parts = (rows + kNormRows - 1) / kNormRows;
  const at::Tensor dweight = at::zeros({parts, size}, weight.options());
  at::parallel_for(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) {
      const std::int64_t first = part * kNormRows;
      cpu_layers::rms_norm_backward(row_of(of.x, first), weight.const_data_ptr<float>(),
                                    of.rstd.const_data_ptr<float>() + first, row_of(dy, first), row_of(residual, first),
                                    std::min(kNormRows, rows - first), size, bf16_output(result.dx) + first * size,
                                    dweight.mutable_data_ptr<float>() + part * size);
    }
  });
  at::sum_out(const_cast<at::Tensor&>(result.dweight), dweight, 0);
}

void rotary(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction, const at::Tensor& to) {
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

void rms_norm(const RmsStatistics& of, const at::Tensor& weight, const at::Tensor& y) {
  const std::int64_t size = of.x.size(-1);
  at::parallel_for(0, rows_of(of.x), kNormRows, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::rms_norm(row_of(of.x, begin), weight.const_data_ptr<float>(), of.rstd.const_data_ptr<float>() + begin,
                         end - begin, size, bf16_output(y) + begin * size);
  });
}

void swiglu(const at::Tensor& h, const at::Tensor& y) {
  at::parallel_for(0, rows_of(h), 16, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::swiglu(row_of(h, begin), end - begin, y.size(-1), bf16_output(y) + begin * y.size(-1));
  });
}

void swiglu_backward(const at::Tensor& dy, const at::Tensor& h, const at::Tensor& dh) {
  at::parallel_for(0, rows_of(h), 16, [&](std::int64_t begin, std::int64_t end) {
    cpu_layers::swiglu_backward(row_of(h, begin), row_of(dy, begin), end - begin, dy.size(-1),
                                bf16_output(dh) + begin * h.size(-1));
  });
}

void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses, bool gradient,
                   double scale) {
  const at::Tensor target = targets.unsqueeze(1);
  at::Tensor wide = logits.to(at::kFloat);
  const at::Tensor log_sum = at::logsumexp(wide, 1, true);
  losses.copy_((log_sum - wide.gather(1, target)).squeeze(1));
  if (!gradient) return;
  wide.sub_(log_sum).exp_();
  wide.scatter_add_(1, target, at::empty_like(log_sum).fill_(-1));
  logits.copy_(wide.mul_(scale));
}

}  // namespace

const LayerKernels kLayers{{},     rms_statistics,  rms_norm, rms_norm_backward,
                           swiglu, swiglu_backward, rotary,   cross_entropy};

}  // namespace ufp4::cpu_kernels
