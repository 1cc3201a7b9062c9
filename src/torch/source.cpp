#include "torch/source.h"

namespace ufp4 {

at::Tensor Source::compute() const {
  switch (kind_) {
    case Kind::kMatrix: return input_;
    case Kind::kRmsNorm: return rms_norm_forward({input_, rstd_}, weight_);
    case Kind::kSwiglu: return swiglu_forward(input_);
    case Kind::kSwigluBackward: return ufp4::swiglu_backward(dy_, input_);
  }
  return {};
}

}  // namespace ufp4
