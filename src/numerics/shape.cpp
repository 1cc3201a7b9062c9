#include <algorithm>
#include <limits>
#include <string>

#include "numerics/hadamard.h"
#include "ufp4/error.h"
#include "ufp4/quantize.h"

namespace ufp4 {

QuantizedShape quantized_shape(std::int64_t rows, std::int64_t columns, const QuantizeSpec& spec) {
  if (spec.format == nullptr) throw InputError("quantize: no format given");
  const int block = spec.block_size();
  if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end()) {
    throw InputError("block size " + std::to_string(block) + " is not one of 16, 32, 64, 128");
  }
  if (spec.format->selector_block != 0 && spec.format->block != block) {
    throw InputError("format '" + std::string(spec.format->name) + "' has blocks of " +
                     std::to_string(spec.format->block) + " only, not " + std::to_string(block));
  }
  if (spec.hadamard.size != 0) hadamard_scale(spec.hadamard.size);  // checks the size
  if (rows < 0 || columns < 0) {
    throw InputError("matrix [" + std::to_string(rows) + ", " + std::to_string(columns) + "] has a negative dimension");
  }
  if (spec.axis == Axis::kColumn) std::swap(rows, columns);
  if (rows > std::numeric_limits<std::uint32_t>::max() || columns > std::numeric_limits<std::uint32_t>::max() - 128) {
    throw InputError("operand [" + std::to_string(rows) + ", " + std::to_string(columns) +
                     "] has a dimension beyond the 32 bits of the random counter");
  }
  const std::int64_t unit = std::max(block, spec.hadamard.size);  // both powers of two: the larger is their multiple
  const std::int64_t padded = (columns + unit - 1) / unit * unit;
  return {rows, padded, columns, padded / block};
}

}  // namespace ufp4
