#include "torch/layer_passes.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>

#include "torch/bf16_rows.h"
#include "torch/device_kernels.h"

namespace ufp4 {
namespace {

// The kernels of a tensor's device, which is torch's current one while this lives.
class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& t) : guard_(t.device()), kernels_(*kernels_of(t.device()).layers) {}
  const LayerKernels* operator->() const { return &kernels_; }

 private:
  c10::DeviceGuard guard_;
  const LayerKernels& kernels_;
};

at::Tensor dense(const at::Tensor& t) { return t.defined() ? t.contiguous() : t; }

// x without the second half of its last axis.
at::Tensor empty_half(const at::Tensor& x) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() /= 2;
  return at::empty(shape, x.options());
}

}  // namespace

RmsStatistics rms_statistics(const at::Tensor& any_x, const at::Tensor& any_branch, double epsilon) {
  const at::Tensor x = dense(any_x);
  const at::Tensor branch = dense(any_branch);
  const at::Tensor rstd = at::empty({rows_of(x)}, x.options().dtype(at::kFloat));
  const at::Tensor sum = branch.defined() ? at::empty_like(x) : x;
  OnDevice(x)->rms_statistics(x, branch, epsilon, sum, rstd);
  return {sum, rstd};
}

at::Tensor rms_norm_forward(const RmsStatistics& of, const at::Tensor& weight) {
  at::Tensor y = at::empty_like(of.x);
  OnDevice(of.x)->rms_norm(of, weight, y);
  return y;
}

RmsNormGradients rms_norm_backward(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                                   const at::Tensor& residual) {
  RmsNormGradients result{at::empty_like(of.x), at::empty_like(weight)};
  OnDevice(of.x)->rms_norm_backward(dense(dy), of, weight, dense(residual), result);
  return result;
}

at::Tensor swiglu_forward(const at::Tensor& any_h) {
  const at::Tensor h = dense(any_h);
  at::Tensor y = empty_half(h);
  OnDevice(h)->swiglu(h, y);
  return y;
}

at::Tensor swiglu_backward(const at::Tensor& dy, const at::Tensor& any_h) {
  const at::Tensor h = dense(any_h);
  at::Tensor dh = at::empty_like(h);
  OnDevice(h)->swiglu_backward(dense(dy), h, dh);
  return dh;
}

void rotary(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction, const at::Tensor& to) {
  OnDevice(to)->rotary(parts, table, direction, to);
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets, bool gradient, double scale) {
  at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  OnDevice(logits)->cross_entropy(logits, targets, losses, gradient, scale);
  return losses;
}

}  // namespace ufp4
