#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "numerics/hadamard.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"
#include "ufp4/quantize.h"

namespace ufp4 {

namespace {

template <typename T>
T find_one_of_two(std::string_view what, std::string_view name, T first, T second) {
  if (name == name_of(first)) return first;
  if (name == name_of(second)) return second;
  throw InputError(std::string(what) + " '" + std::string(name) + "' is neither '" + std::string(name_of(first)) +
                   "' nor '" + std::string(name_of(second)) + "'");
}

}  // namespace

OuterScale OperandSpec::outer_each() const {
  if (outer.each != OuterScale::kOwn) return outer.each;
  return format == nullptr ? OuterScale::kTensor : format->own_outer;
}

int OperandSpec::block_size() const { return block == 0 ? format->block : block; }

bool QuantizeTask::outer_amax_unknown() const { return spec.format->has_outer_scale() && outer_amax == nullptr; }

void validate(const OperandSpec& spec) {
  if (spec.format == nullptr) throw InputError("quantize: no format given");
  const BlockFormat& format = *spec.format;
  const std::string name = "format '" + std::string(format.name) + "'";
  const int block = spec.block_size();
  if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end()) {
    throw InputError("block size " + std::to_string(block) + " is not one of 16, 32, 64, 128");
  }
  if (format.selector_block != 0 && format.block != block) {
    throw InputError(name + " has blocks of " + std::to_string(format.block) + " only, not " + std::to_string(block));
  }
  // A scale for the tensor may be named where there is none: it is what all other formats take.
  const OuterScale each = spec.outer_each();
  if (!format.outer_scales.has(each) && (each != OuterScale::kTensor || format.has_outer_scale())) {
    std::string known;
    for (const OuterScale one : kOuterScales) {
      if (format.outer_scales.has(one)) known += (known.empty() ? "; it has " : ", ") + std::string(name_of(one));
    }
    throw InputError(name + " has no second-level scale for each " + std::string(name_of(each)) + known);
  }
  if (spec.outer.amax == AmaxSource::kDelayed && !(format.has_window() && spec.outer_each() == OuterScale::kTensor)) {
    throw InputError("amax = 'delayed' is for int4_p2 with outer = 'tensor'; for others set amax = 'exact' too");
  }
  const float tau = spec.options.tau;
  if (tau != 0 && (!format.has_window() || (tau != 1 && tau != 1.125F))) {
    throw InputError(name + " with tau " + std::to_string(tau) + ": int4_p2 has tau, and it is 9/8 or 1");
  }
  if (spec.hadamard.size != 0) hadamard_scale(spec.hadamard.size);  // checks the size
}

QuantizedShape quantized_shape(std::int64_t rows, std::int64_t columns, const OperandSpec& spec, Axis axis) {
  validate(spec);
  if (rows < 0 || columns < 0) {
    throw InputError("matrix [" + std::to_string(rows) + ", " + std::to_string(columns) + "] has a negative dimension");
  }
  if (axis == Axis::kColumn) std::swap(rows, columns);
  if (rows > std::numeric_limits<std::uint32_t>::max() || columns > std::numeric_limits<std::uint32_t>::max() - 128) {
    throw InputError("operand [" + std::to_string(rows) + ", " + std::to_string(columns) +
                     "] has a dimension beyond the 32 bits of the random counter");
  }
  const int block = spec.block_size();
  const std::int64_t unit = std::max(block, spec.hadamard.size);  // both powers of two: the larger is their multiple
  const std::int64_t padded = (columns + unit - 1) / unit * unit;
  return {rows, padded, columns, padded / block};
}

OuterScale find_outer_scale(std::string_view name) {
  std::vector<std::string_view> names{name_of(OuterScale::kOwn)};
  if (name == names[0]) return OuterScale::kOwn;
  for (const OuterScale outer : kOuterScales) {
    if (name_of(outer) == name) return outer;
    names.push_back(name_of(outer));
  }
  throw InputError("unknown outer scale '" + std::string(name) + "'" + name_hint(name, names));
}

Rounding find_rounding(std::string_view name) {
  return find_one_of_two("rounding", name, Rounding::kNearest, Rounding::kStochastic);
}

Axis find_axis(std::string_view name) { return find_one_of_two("axis", name, Axis::kRow, Axis::kColumn); }

OuterShape outer_shape(const QuantizedShape& shape, OuterScale outer) {
  const std::int64_t rows = std::max<std::int64_t>(shape.rows, 1);
  const std::int64_t columns = std::max<std::int64_t>(shape.columns, 1);
  const std::int64_t each = columns_of(outer);
  switch (outer) {
    case OuterScale::kTensor:
    case OuterScale::kOwn: return {1, 1, rows, columns};
    case OuterScale::kRow: return {rows, 1, 1, columns};
    case OuterScale::k128x128: return {(rows + each - 1) / each, (columns + each - 1) / each, each, each};
    default: return {rows, (columns + each - 1) / each, 1, each};
  }
}

}  // namespace ufp4
