#include "numerics/reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "numerics/hadamard.h"
#include "numerics/outer_amax.h"
#include "numerics/packed_scales.h"
#include "numerics/philox.h"
#include "ufp4/format.h"

namespace ufp4::reference {
namespace {

float load(const ConstMatrix& m, std::int64_t row, std::int64_t column) {
  const std::int64_t i = row * m.row_stride + column;
  switch (m.dtype) {
    case DType::kF32: return static_cast<const float*>(m.data)[i];
    case DType::kBF16: return bf16_to_float(static_cast<const std::uint16_t*>(m.data)[i]);
    case DType::kF16: return f16_to_float(static_cast<const std::uint16_t*>(m.data)[i]);
  }
  return 0;
}

void store(void* out, DType dtype, std::int64_t i, float value) {
  if (dtype == DType::kF32) {
    static_cast<float*>(out)[i] = value;
  } else {
    static_cast<std::uint16_t*>(out)[i] = float_to_bf16(value);
  }
}

// Row r of the operand, padded with zeros and transformed.
void load_row(const ConstMatrix& in, const OperandSpec& spec, const Place& place, const QuantizedShape& shape,
              std::int64_t r, std::span<float> values) {
  for (std::int64_t c = 0; c < shape.columns; ++c) {
    const bool valid = c < shape.valid_columns;
    values[static_cast<std::size_t>(c)] = !valid ? 0 : place.axis == Axis::kRow ? load(in, r, c) : load(in, c, r);
  }
  const auto n = static_cast<std::size_t>(spec.hadamard.size);
  if (n == 0) return;
  for (std::size_t c = 0; c < values.size(); c += n) apply_hadamard(values.subspan(c, n), spec.hadamard, place.seed);
}

float block_amax(std::span<const float> values) {
  float amax = 0;
  for (const float v : values) {
    if (!std::isfinite(v)) return 0;
    amax = std::max(amax, std::fabs(v));
  }
  return amax;
}

// The part of an operand that some stored rows stand for: rows of it, or columns to the end of the padding.
struct Part {
  RowRange rows;
  RowRange columns;
};

Part part_of(const ConstMatrix& in, Axis axis, const QuantizedShape& shape, RowRange stored) {
  if (axis == Axis::kRow) return {stored, {0, shape.columns}};
  return {{0, shape.rows}, {stored.first, stored.last == in.rows ? shape.columns : stored.last}};
}

OuterAmax find_outer_amax(const ConstMatrix& in, const QuantizeTask& task, const QuantizedShape& shape) {
  OuterAmax outer(task, shape);
  if (task.outer_amax_unknown()) raise_outer_amax(in, task.spec, task.place, {0, in.rows}, outer.all().data());
  return outer;
}

}  // namespace

void quantize(const ConstMatrix& in, const QuantizeTask& task) { quantize(in, task, {0, in.rows}); }

void quantize(const ConstMatrix& in, const QuantizeTask& task, RowRange stored) {
  const OperandSpec& spec = task.spec;
  const Place& place = task.place;
  const Quantized& out = task.out;
  const BlockFormat& format = *spec.format;
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec, place.axis);
  const auto block = static_cast<std::size_t>(spec.block_size());
  const bool stochastic = spec.rounding == Rounding::kStochastic;
  const OuterAmax outer = find_outer_amax(in, task, shape);
  const bool scale_apart = format.outer_stays_apart(spec.outer_each());
  if (out.outer_scales != nullptr && stored.first == 0) {
    std::transform(outer.all().begin(), outer.all().end(), out.outer_scales,
                   [&](float amax) { return outer_scale(format, amax); });
  }
  const auto [rows, columns] = part_of(in, place.axis, shape, stored);
  const int packed_bytes = format.packed_scale_bytes();
  const std::size_t each = format.selector_block == 0 ? block : static_cast<std::size_t>(format.selector_block);

  std::vector<float> values(static_cast<std::size_t>(shape.columns));
  std::vector<std::uint32_t> n16(stochastic ? block : 0);
  for (std::int64_t r = rows.first; r < rows.last; ++r) {
    load_row(in, spec, place, shape, r, values);
    for (auto c = static_cast<std::size_t>(columns.first); c < static_cast<std::size_t>(columns.last); c += block) {
      for (std::size_t i = 0; i < n16.size(); ++i) {
        n16[i] = philox::draw16(place, place.row_number(static_cast<std::uint32_t>(r)),
                                static_cast<std::uint32_t>(c + i) + place.column_offset);
      }
      const float outer_amax = outer.at(r, static_cast<std::int64_t>(c));
      const float second = outer_scale(format, outer_amax);
      const std::span<const float> inputs = std::span(values).subspan(c, block);
      const Block result = quantize_block(inputs, spec, n16, outer_amax);
      const float scale = scale_apart ? result.scale : result.scale * second;
      const std::int64_t first = r * shape.columns + static_cast<std::int64_t>(c);
      const std::int64_t number = first / static_cast<std::int64_t>(block);
      if (out.scales != nullptr) out.scales[number] = scale;
      if (out.packed_scales != nullptr) {
        pack_scales(format, &result.scale, result.selectors.data(), 1, out.packed_scales + number * packed_bytes);
      }
      if (out.amax != nullptr) *out.amax = std::max(*out.amax, block_amax(inputs));
      if (out.clipped != nullptr && result.clipped) ++*out.clipped;
      for (std::size_t i = 0; i < block; ++i) {
        const std::int64_t at = first + static_cast<std::int64_t>(i);
        if (out.codes != nullptr && i % 2 == 0) {
          out.codes[at / 2] = static_cast<std::uint8_t>(result.codes[i] | (result.codes[i + 1] << 4));
        }
        const std::uint8_t selector = result.selectors[i / each];
        if (out.selectors != nullptr && format.selector_block != 0 && i % each == 0) {
          out.selectors[at / static_cast<std::int64_t>(each)] = selector;
        }
        if (out.e4m3 != nullptr) {
          out.e4m3[at] = float_to_e4m3(element_value(format, result.codes[i], result.scale, selector));
        }
        if (out.int8 != nullptr) {
          out.int8[at] = static_cast<std::int8_t>(element_value(format, result.codes[i], result.scale, selector));
        }
        if (out.dequantized != nullptr) {
          store(out.dequantized, out.dequantized_dtype, at,
                element_value(format, result.codes[i], scale, selector) * (scale_apart ? second : 1));
        }
      }
    }
  }
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  const BlockFormat& format = *in.format;
  const std::int64_t block = in.block == 0 ? format.block : in.block;
  const OuterShape outer = outer_shape({in.rows, in.columns, in.columns, in.columns / block}, in.outer);
  for (std::int64_t i = 0; i < in.rows * in.columns; ++i) {
    const float second = in.outer_scales == nullptr ? 1 : in.outer_scales[outer.index(i / in.columns, i % in.columns)];
    const unsigned code = (in.codes[i / 2] >> (4 * (i % 2))) & 0xFu;
    const std::uint8_t selector =
        format.selector_block == 0 ? std::uint8_t{0} : in.selectors[i / format.selector_block];
    store(out, out_dtype, i, element_value(format, code, in.scales[i / block], selector) * second);
  }
}

void raise_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange stored,
                      float* amax) {
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec, place.axis);
  const OuterShape outer = outer_shape(shape, spec.outer_each());
  const auto [rows, columns] = part_of(in, place.axis, shape, stored);
  const std::int64_t block = spec.block_size();
  std::vector<float> values(static_cast<std::size_t>(shape.columns));
  for (std::int64_t r = rows.first; r < rows.last; ++r) {
    load_row(in, spec, place, shape, r, values);
    for (std::int64_t c = columns.first; c < columns.last; c += block) {
      const auto part = std::span(values).subspan(static_cast<std::size_t>(c), static_cast<std::size_t>(block));
      float& here = amax[outer.index(r, c)];
      here = raised(here, outer_magnitude(*spec.format, part));
    }
  }
}

}  // namespace ufp4::reference
