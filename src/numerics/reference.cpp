#include "numerics/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

// Index of the level nearest to t, a tie to the even index.
int nearest_index(const ElementFormat& e, float t) {
  int i = 0;
  while (i + 1 < e.level_count) {
    const auto lo = static_cast<std::size_t>(i);
    const float middle = (e.levels[lo] + e.levels[lo + 1]) / 2;  // exact for 4-bit levels
    if (t < middle || (t == middle && i % 2 == 0)) break;
    ++i;
  }
  return i;
}

// The level below or at t, or the one above it with the probability of t's place between them.
int stochastic_index(const ElementFormat& e, float t, std::uint32_t n16) {
  int i = 0;
  while (i + 1 < e.level_count && e.levels[static_cast<std::size_t>(i) + 1] <= t) ++i;
  if (i + 1 == e.level_count) return i;
  const float lo = e.levels[static_cast<std::size_t>(i)];
  const float hi = e.levels[static_cast<std::size_t>(i) + 1];
  const float u = (static_cast<float>(n16) + 0.5F) / 65536.0F;
  return u < (t - lo) / (hi - lo) ? i + 1 : i;
}

std::uint8_t encode(const ElementFormat& e, bool negative, int index) {
  if (index == 0 || !negative) return static_cast<std::uint8_t>(index);
  return static_cast<std::uint8_t>(e.code_kind == CodeKind::kSignMagnitude ? 8 + index : 16 - index);
}

// The signed scale of a full two's complement block: the larger extreme takes the code -8.
float signed_scale(std::span<const float> values) {
  float positive = 0;
  float negative = 0;
  for (const float v : values) {
    positive = std::max(positive, v);
    negative = std::max(negative, -v);
  }
  const float a = std::max(positive / 8, negative / 7);
  const float b = std::max(negative / 8, positive / 7);
  return a < b ? -a : b;
}

int full_index(bool negative, float t, bool stochastic, std::uint32_t n16) {
  const float magnitude = std::min(t, negative ? 8.0F : 7.0F);
  if (!stochastic) return static_cast<int>(std::nearbyint(magnitude));  // ties to even
  const float lo = std::floor(magnitude);
  const float u = (static_cast<float>(n16) + 0.5F) / 65536.0F;
  return static_cast<int>(u < magnitude - lo ? lo + 1 : lo);
}

}  // namespace

Block quantize_block(std::span<const float> values, const ElementFormat& e, std::span<const std::uint32_t> n16) {
  Block block;
  float amax = 0;
  for (const float v : values) {
    if (!std::isfinite(v)) {
      block.scale = std::numeric_limits<float>::quiet_NaN();
      return block;
    }
    amax = std::max(amax, std::fabs(v));
  }
  if (amax < 0x1p-120F) return block;

  const bool stochastic = !n16.empty();
  const bool full = e.code_kind == CodeKind::kFullTwosComplement;
  const float largest = e.largest();
  block.scale = full ? signed_scale(values) : amax / largest;
  const float inverse = full ? 1 / block.scale : largest / amax;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t n = stochastic ? n16[i] : 0;
    const float t = values[i] * inverse;
    const bool negative = t < 0;
    int index = 0;
    if (full) {
      index = full_index(negative, std::fabs(t), stochastic, n);
    } else {
      const float magnitude = std::min(std::fabs(t), largest);
      index = stochastic ? stochastic_index(e, magnitude, n) : nearest_index(e, magnitude);
    }
    block.codes[i] = encode(e, negative, index);
  }
  return block;
}

void quantize(const ConstMatrix& in, const QuantizeTask& task) {
  const QuantizeSpec& spec = task.spec;
  const Quantized& out = task.out;
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
  const auto block = static_cast<std::size_t>(spec.block_size());
  const bool stochastic = spec.rounding == Rounding::kStochastic;
  if (out.global_scale != nullptr) *out.global_scale = 1;

  std::vector<float> values(static_cast<std::size_t>(shape.columns));
  std::vector<std::uint32_t> n16(stochastic ? block : 0);
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    for (std::int64_t c = 0; c < shape.columns; ++c) {
      const bool valid = c < shape.valid_columns;
      values[static_cast<std::size_t>(c)] = !valid ? 0 : spec.axis == Axis::kRow ? load(in, r, c) : load(in, c, r);
    }
    if (spec.hadamard.size != 0) {
      const auto n = static_cast<std::size_t>(spec.hadamard.size);
      for (std::size_t c = 0; c < values.size(); c += n) apply_hadamard(std::span(values).subspan(c, n), spec.hadamard);
    }
    for (std::size_t c = 0; c < values.size(); c += block) {
      for (std::size_t i = 0; i < n16.size(); ++i) {
        n16[i] = philox::draw16(spec.random, static_cast<std::uint32_t>(r) + spec.random.row_offset,
                                static_cast<std::uint32_t>(c + i) + spec.random.column_offset);
      }
      const Block result = quantize_block(std::span(values).subspan(c, block), spec.format->element, n16);
      const std::int64_t first = r * shape.columns + static_cast<std::int64_t>(c);
      if (out.scales != nullptr) out.scales[first / static_cast<std::int64_t>(block)] = result.scale;
      for (std::size_t i = 0; i < block; ++i) {
        const std::int64_t at = first + static_cast<std::int64_t>(i);
        if (out.codes != nullptr && i % 2 == 0) {
          out.codes[at / 2] = static_cast<std::uint8_t>(result.codes[i] | (result.codes[i + 1] << 4));
        }
        if (out.dequantized != nullptr) {
          store(out.dequantized, out.dequantized_dtype, at,
                code_value(spec.format->element, result.codes[i]) * result.scale);
        }
      }
    }
  }
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  const std::int64_t block = in.block == 0 ? in.format->block : in.block;
  for (std::int64_t i = 0; i < in.rows * in.columns; ++i) {
    const unsigned code = (in.codes[i / 2] >> (4 * (i % 2))) & 0xFu;
    store(out, out_dtype, i, code_value(in.format->element, code) * in.scales[i / block]);
  }
}

}  // namespace ufp4::reference
