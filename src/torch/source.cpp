#include "torch/source.h"

#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

namespace ufp4 {

c10::SymInt Source::sym_rows() const {
  return kind_ == Kind::kRotaryBackward ? input_.sym_size(0) * input_.sym_size(1) : input_.sym_size(0);
}

c10::SymInt Source::sym_columns() const {
  if (kind_ == Kind::kSwiglu) return input_.sym_size(1) / 2;
  if (kind_ != Kind::kRotaryBackward) return input_.sym_size(1);
  c10::SymInt heads = 0;
  for (const RotaryHeads& part : heads_) heads += part.heads.sym_size(2);
  return heads * input_.sym_size(3);
}

at::Tensor Source::compute() const {
  switch (kind_) {
    case Kind::kMatrix: return input_;
    case Kind::kRmsNorm: return rms_norm_forward({input_, rstd_}, weight_);
    case Kind::kSwiglu: return swiglu_forward(input_);
    case Kind::kSwigluBackward: return ufp4::swiglu_backward(dy_, input_);
    case Kind::kRotaryBackward: {
      const at::Tensor whole =
          at::empty({input_.size(0), input_.size(1), columns() / input_.size(3), input_.size(3)}, input_.options());
      rotary(heads_, weight_, -1, whole);
      return whole.view({rows(), columns()});
    }
    case Kind::kRounded: return input_.to(at::kBFloat16);
  }
  return {};
}

}  // namespace ufp4
