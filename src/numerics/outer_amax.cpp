#include "numerics/outer_amax.h"

#include "ufp4/format.h"

namespace ufp4 {

OuterAmax::OuterAmax(const QuantizeTask& task, const QuantizedShape& shape)
    : shape_(outer_shape(shape, task.spec.outer_each())),
      amax_(static_cast<std::size_t>(shape_.rows * shape_.columns)) {
  if (task.spec.format->has_outer_scale() && task.outer_amax != nullptr) {
    std::copy(task.outer_amax, task.outer_amax + amax_.size(), amax_.begin());
  }
}

}  // namespace ufp4
