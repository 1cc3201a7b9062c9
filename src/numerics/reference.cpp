#include "numerics/reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "numerics/hadamard.h"
#include "numerics/philox.h"

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
void load_row(const ConstMatrix& in, const QuantizeSpec& spec, const QuantizedShape& shape, std::int64_t r,
              std::span<float> values) {
  for (std::int64_t c = 0; c < shape.columns; ++c) {
    const bool valid = c < shape.valid_columns;
    values[static_cast<std::size_t>(c)] = !valid ? 0 : spec.axis == Axis::kRow ? load(in, r, c) : load(in, c, r);
  }
  const auto n = static_cast<std::size_t>(spec.hadamard.size);
  if (n == 0) return;
  for (std::size_t c = 0; c < values.size(); c += n) apply_hadamard(values.subspan(c, n), spec.hadamard);
}

bool finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

float block_amax(std::span<const float> values) {
  if (!finite(values)) return 0;
  float amax = 0;
  for (const float v : values) amax = std::max(amax, std::fabs(v));
  return amax;
}

// The second-level amax of every block: one a tensor, row, run of 128 or tile of 128 x 128, looked up by block.
class OuterAmax {
 public:
  OuterAmax(const ConstMatrix& in, const QuantizeSpec& spec, const QuantizedShape& shape) : block_(spec.block_size()) {
    if (!spec.format->has_global_scale()) return;
    constexpr std::int64_t kTile = 128;
    rows_each_ = spec.outer == OuterScale::kRow || spec.outer == OuterScale::k1x128 ? 1
                 : spec.outer == OuterScale::k128x128                               ? kTile
                                                      : std::max<std::int64_t>(shape.rows, 1);
    const bool tiled = spec.outer == OuterScale::k1x128 || spec.outer == OuterScale::k128x128;
    columns_each_ = tiled ? kTile : std::max<std::int64_t>(shape.columns, 1);
    across_ = (shape.columns + columns_each_ - 1) / columns_each_;
    amax_.resize(static_cast<std::size_t>((shape.rows + rows_each_ - 1) / rows_each_ * across_));
    if (spec.outer == OuterScale::kTensor && spec.tensor_amax >= 0) {
      std::fill(amax_.begin(), amax_.end(), spec.tensor_amax);
      return;
    }
    std::vector<float> values(static_cast<std::size_t>(shape.columns));
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      load_row(in, spec, shape, r, values);
      for (std::int64_t c = 0; c < shape.columns; c += block_) {
        float& amax = amax_[index(r, c)];
        amax = std::max(
            amax, block_amax(std::span(values).subspan(static_cast<std::size_t>(c), static_cast<std::size_t>(block_))));
      }
    }
  }

  float at(std::int64_t row, std::int64_t column) const { return amax_.empty() ? 0 : amax_[index(row, column)]; }

 private:
  std::size_t index(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(row / rows_each_ * across_ + column / columns_each_);
  }

  std::int64_t block_;
  std::int64_t rows_each_ = 1;
  std::int64_t columns_each_ = 1;
  std::int64_t across_ = 1;
  std::vector<float> amax_;
};

}  // namespace

void quantize(const ConstMatrix& in, const QuantizeTask& task) { quantize(in, task, {0, in.rows}); }

void quantize(const ConstMatrix& in, const QuantizeTask& task, RowRange stored) {
  const QuantizeSpec& spec = task.spec;
  const Quantized& out = task.out;
  const BlockFormat& format = *spec.format;
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
  const auto block = static_cast<std::size_t>(spec.block_size());
  const bool stochastic = spec.rounding == Rounding::kStochastic;
  const OuterAmax outer(in, spec, shape);
  // A second-level scale of its own for every row or tile is multiplied into the block scales; the tensor's is kept
  // apart.
  const bool scale_apart = spec.outer == OuterScale::kTensor;
  if (out.global_scale != nullptr && stored.first == 0)
    *out.global_scale = scale_apart ? global_scale(format, outer.at(0, 0)) : 1;

  // The stored rows are rows of the operand, or columns of it, to the end of the padding.
  const bool row_axis = spec.axis == Axis::kRow;
  const RowRange all_columns{0, shape.columns};
  const RowRange rows = row_axis ? stored : RowRange{0, shape.rows};
  const RowRange columns =
      row_axis ? all_columns : RowRange{stored.first, stored.last == in.rows ? shape.columns : stored.last};

  std::vector<float> values(static_cast<std::size_t>(shape.columns));
  std::vector<std::uint32_t> n16(stochastic ? block : 0);
  for (std::int64_t r = rows.first; r < rows.last; ++r) {
    load_row(in, spec, shape, r, values);
    for (auto c = static_cast<std::size_t>(columns.first); c < static_cast<std::size_t>(columns.last); c += block) {
      for (std::size_t i = 0; i < n16.size(); ++i) {
        n16[i] = philox::draw16(spec.random, static_cast<std::uint32_t>(r) + spec.random.row_offset,
                                static_cast<std::uint32_t>(c + i) + spec.random.column_offset);
      }
      const float outer_amax = outer.at(r, static_cast<std::int64_t>(c));
      const float outer_scale = global_scale(format, outer_amax);
      const Block result = quantize_block(std::span(values).subspan(c, block), format, n16, outer_amax);
      const std::int64_t first = r * shape.columns + static_cast<std::int64_t>(c);
      if (out.scales != nullptr) {
        out.scales[first / static_cast<std::int64_t>(block)] = scale_apart ? result.scale : result.scale * outer_scale;
      }
      for (std::size_t i = 0; i < block; ++i) {
        const std::int64_t at = first + static_cast<std::int64_t>(i);
        if (out.codes != nullptr && i % 2 == 0) {
          out.codes[at / 2] = static_cast<std::uint8_t>(result.codes[i] | (result.codes[i + 1] << 4));
        }
        const auto each = static_cast<std::size_t>(
            format.selector_block == 0 ? block : static_cast<std::size_t>(format.selector_block));
        const std::uint8_t selector = result.selectors[i / each];
        if (out.selectors != nullptr && format.selector_block != 0 && i % each == 0) {
          out.selectors[at / static_cast<std::int64_t>(each)] = selector;
        }
        if (out.dequantized != nullptr) {
          store(out.dequantized, out.dequantized_dtype, at,
                element_value(format, result.codes[i], result.scale, selector) * outer_scale);
        }
      }
    }
  }
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  const BlockFormat& format = *in.format;
  const std::int64_t block = in.block == 0 ? format.block : in.block;
  for (std::int64_t i = 0; i < in.rows * in.columns; ++i) {
    const unsigned code = (in.codes[i / 2] >> (4 * (i % 2))) & 0xFu;
    const std::uint8_t selector =
        format.selector_block == 0 ? std::uint8_t{0} : in.selectors[i / format.selector_block];
    store(out, out_dtype, i, element_value(format, code, in.scales[i / block], selector) * in.global_scale);
  }
}

float tensor_amax(const ConstMatrix& in, const QuantizeSpec& spec) {
  QuantizeSpec whole = spec;
  whole.outer = OuterScale::kTensor;
  whole.tensor_amax = -1;
  return OuterAmax(in, whole, quantized_shape(in.rows, in.columns, whole)).at(0, 0);
}

}  // namespace ufp4::reference
