#include "torch/window.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "numerics/window.h"

namespace ufp4 {
Windows::Windows(std::int64_t linears, const at::Device& device) {
  const at::TensorOptions options = at::TensorOptions().dtype(at::kFloat).device(device);
  expected_ = at::zeros({linears, kOperandRoles}, options);
  seen_ = at::zeros({linears, kOperandRoles}, options);
  left_ = at::zeros({linears, kOperandRoles}, options.dtype(at::kInt));
  scratch_ = at::zeros({linears, kOperandRoles, Window::kScratch}, options);
}

void Windows::begin_step() {
  expected_.copy_(seen_).mul_(kWindowRoom).clamp_max_(std::numeric_limits<float>::max());
  seen_.zero_();
  left_.zero_();
}

Window Windows::at(std::uint32_t number, OperandRole role) const {
  const std::int64_t place = std::int64_t{number} * kOperandRoles + static_cast<std::int64_t>(role);
  return {.expected = expected_.const_data_ptr<float>() + place,
          .scratch = scratch_.mutable_data_ptr<float>() + place * Window::kScratch,
          .seen = record_ ? seen_.mutable_data_ptr<float>() + place : nullptr,
          .left = record_ ? left_.mutable_data_ptr<std::int32_t>() + place : nullptr};
}

Windows Windows::frozen() const {
  Windows copy = *this;
  copy.record_ = false;
  return copy;
}

}  // namespace ufp4
