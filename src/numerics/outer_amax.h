// The largest magnitudes that second-level scales follow from: one for the tensor, each row, or each tile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ufp4/quantize.h"

namespace ufp4 {

class OuterAmax {
 public:
  // As the task gives them; all 0 if it does not, or if the format has no second-level scales.
  OuterAmax(const QuantizeTask& task, const QuantizedShape& shape);

  // That of the block that begins at (row, column) of the operand.
  float at(std::int64_t row, std::int64_t column) const {
    return amax_[static_cast<std::size_t>(shape_.index(row, column))];
  }

  std::vector<float>& all() { return amax_; }
  const std::vector<float>& all() const { return amax_; }

 private:
  OuterShape shape_;
  std::vector<float> amax_;
};

}  // namespace ufp4
