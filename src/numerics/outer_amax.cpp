#include "numerics/outer_amax.h"

#include "ufp4/format.h"

namespace ufp4 {

OuterAmax::OuterAmax(const QuantizeSpec& spec, const QuantizedShape& shape)
    : shape_(outer_shape(shape, spec.outer)), amax_(static_cast<std::size_t>(shape_.rows * shape_.columns)) {
  if (!spec.format->has_outer_scale()) return;
  if (spec.outer_amax != nullptr) {
    std::copy(spec.outer_amax, spec.outer_amax + amax_.size(), amax_.begin());
  } else if (spec.outer == OuterScale::kTensor && spec.tensor_amax >= 0) {
    amax_[0] = spec.tensor_amax;
  }
}

}  // namespace ufp4
