#include "torch/source.h"

#include <c10/core/ScalarType.h>

namespace ufp4 {

bool Source::rounds(const at::Tensor& matrix) {
  const auto aligned = [&] { return reinterpret_cast<std::uintptr_t>(matrix.const_data_ptr()) % 16 == 0; };
  return matrix.is_cuda() && matrix.scalar_type() == at::kFloat && matrix.is_contiguous() && matrix.size(1) % 8 == 0 &&
         aligned();
}

at::Tensor Source::compute() const {
  switch (kind_) {
    case Kind::kMatrix: return input_;
    case Kind::kRmsNorm: return rms_norm_forward({input_, rstd_}, weight_);
    case Kind::kSwiglu: return swiglu_forward(input_);
    case Kind::kSwigluBackward: return ufp4::swiglu_backward(dy_, input_);
    case Kind::kRounded: return input_.to(at::kBFloat16);
  }
  return {};
}

}  // namespace ufp4
