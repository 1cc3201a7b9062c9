// |found - expected| / |expected| of tensors, in FP64; and a tensor to differentiate by.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

namespace ufp4 {

inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wide = expected.detach().to(at::kDouble);
  return ((found.detach().to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

inline at::Tensor leaf(const at::Tensor& t) { return t.detach().clone().set_requires_grad(true); }

}  // namespace ufp4
