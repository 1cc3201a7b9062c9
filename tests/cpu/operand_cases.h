// Matrices and comparisons for the tests of a backend against the reference.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ufp4/backend.h"
#include "ufp4/quantize.h"

namespace ufp4::testing {

// A matrix that owns its memory, at an odd element offset and with a stride of its own.
struct OwnedMatrix {
  std::vector<std::uint8_t> bytes;
  ConstMatrix view;
};

enum class Values { kNormal, kHostile, kTies };

inline float hostile_value(std::mt19937& random) {
  static const std::vector<float> values{0.0F,
                                         -0.0F,
                                         1.0F,
                                         std::numeric_limits<float>::quiet_NaN(),
                                         std::numeric_limits<float>::infinity(),
                                         -std::numeric_limits<float>::infinity(),
                                         std::numeric_limits<float>::max(),
                                         -std::numeric_limits<float>::max(),
                                         std::numeric_limits<float>::denorm_min(),
                                         -0x1.8p-140F,
                                         0x1p-120F,
                                         0x1.fffffep-121F,
                                         0x1p-122F,
                                         0x1p-126F,
                                         0x1p-100F,
                                         0x1p100F,
                                         0x1.8p-99F,
                                         0x1p-90F,
                                         -0x1.2p101F};
  return values[random() % values.size()];
}

inline float draw_value(Values kind, std::mt19937& random) {
  std::normal_distribution<float> normal;
  if (kind == Values::kTies) return static_cast<float>(static_cast<int>(random() % 57) - 28) * 0.25F;
  return normal(random);
}

inline OwnedMatrix make_matrix(std::int64_t rows, std::int64_t columns, std::int64_t stride, DType dtype, Values kind,
                               std::uint32_t seed) {
  std::mt19937 random(seed);
  OwnedMatrix matrix;
  const std::size_t size = size_of(dtype);
  matrix.bytes.resize((static_cast<std::size_t>(rows * stride) + 1) * size);
  std::uint8_t* first = matrix.bytes.data() + size;
  for (std::int64_t r = 0; r < rows; ++r) {
    // Rows differ in size, so that every range of scales occurs; hostile values come in runs that leave blocks alone
    // too.
    const float scale = kind == Values::kHostile ? std::ldexp(1.0F, static_cast<int>(random() % 250) - 125)
                        : kind == Values::kTies  ? 1.0F
                                                 : std::ldexp(1.0F, static_cast<int>(random() % 9) - 4);
    for (std::int64_t c = 0; c < stride; ++c) {
      float value = draw_value(kind, random) * scale;
      if (kind == Values::kHostile && random() % 40 == 0) value = hostile_value(random);
      if (kind == Values::kHostile && (c / 32 + r) % 3 == 0) value = 0.0F;
      std::uint8_t* to = first + static_cast<std::size_t>(r * stride + c) * size;
      if (dtype == DType::kF32) {
        std::memcpy(to, &value, sizeof value);
      } else {
        const std::uint16_t bits = dtype == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
        std::memcpy(to, &bits, sizeof bits);
      }
    }
  }
  matrix.view = {first, dtype, rows, columns, stride};
  return matrix;
}

// Everything that quantize can write.
struct OwnedResult {
  QuantizedShape shape;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> f32;
  std::vector<std::uint16_t> bf16;
  float global_scale = 0;
  std::vector<std::uint8_t> selectors;
  std::vector<std::uint8_t> packed_scales;
  std::vector<float> outer_scales;
};

struct Wanted {
  bool codes = true;
  bool scales = true;
  bool f32 = true;
  bool bf16 = false;
  bool packed = true;
  bool selectors = true;
};

inline OwnedResult make_result(const ConstMatrix& in, const QuantizeSpec& spec, const Wanted& wanted) {
  OwnedResult result;
  result.shape = quantized_shape(in.rows, in.columns, spec);
  const auto elements = static_cast<std::size_t>(result.shape.rows * result.shape.columns);
  if (wanted.codes) result.codes.assign(elements / 2, 0xEE);
  if (wanted.scales) result.scales.assign(elements / static_cast<std::size_t>(spec.block_size()), -1.0F);
  if (wanted.f32) result.f32.assign(elements, -1.0F);
  if (wanted.bf16) result.bf16.assign(elements, 0xEEEE);
  const BlockFormat& format = *spec.format;
  if (wanted.selectors && format.selector_block != 0) {
    result.selectors.assign(elements / static_cast<std::size_t>(format.selector_block), 0xEE);
  }
  if (wanted.packed) {
    result.packed_scales.assign(
        elements / static_cast<std::size_t>(spec.block_size()) * static_cast<std::size_t>(format.packed_scale_bytes()),
        0xEE);
    const OuterShape outer = outer_shape(result.shape, spec.outer);
    result.outer_scales.assign(elements == 0 ? 0 : static_cast<std::size_t>(outer.rows * outer.columns), -1.0F);
  }
  return result;
}

inline QuantizeTask make_task(const QuantizeSpec& spec, OwnedResult& result) {
  QuantizeTask task{spec, {}};
  if (!result.codes.empty()) task.out.codes = result.codes.data();
  if (!result.scales.empty()) task.out.scales = result.scales.data();
  if (!result.f32.empty()) {
    task.out.dequantized = result.f32.data();
    task.out.dequantized_dtype = DType::kF32;
  } else if (!result.bf16.empty()) {
    task.out.dequantized = result.bf16.data();
    task.out.dequantized_dtype = DType::kBF16;
  }
  task.out.global_scale = &result.global_scale;
  if (!result.selectors.empty()) task.out.selectors = result.selectors.data();
  if (!result.packed_scales.empty()) task.out.packed_scales = result.packed_scales.data();
  if (!result.outer_scales.empty()) task.out.outer_scales = result.outer_scales.data();
  return task;
}

// "", or the first coordinate at which the arrays differ in a bit.
template <class T>
std::string first_difference(const char* what, const std::vector<T>& got, const std::vector<T>& want,
                             std::int64_t rows) {
  if (got.size() != want.size()) return std::string(what) + ": sizes differ";
  const std::size_t per_row = rows == 0 ? 1 : std::max<std::size_t>(1, want.size() / static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < want.size(); ++i) {
    // Bits, so that NaN equals itself and the zeros differ.
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (std::memcmp(&got[i], &want[i], sizeof(T)) == 0) continue;
    return std::string(what) + "[" + std::to_string(i / per_row) + ", " + std::to_string(i % per_row) + "] is " +
           std::to_string(got[i]) + ", expected " + std::to_string(want[i]);
  }
  return "";
}

inline std::string first_difference(const OwnedResult& got, const OwnedResult& want) {
  for (const std::string& difference : {first_difference("scales", got.scales, want.scales, want.shape.rows),
                                        first_difference("codes", got.codes, want.codes, want.shape.rows),
                                        first_difference("dequantized F32", got.f32, want.f32, want.shape.rows),
                                        first_difference("dequantized BF16", got.bf16, want.bf16, want.shape.rows),
                                        first_difference("selectors", got.selectors, want.selectors, want.shape.rows),
                                        first_difference("packed scales", got.packed_scales, want.packed_scales, 1),
                                        first_difference("outer scales", got.outer_scales, want.outer_scales, 1)}) {
    if (!difference.empty()) return difference;
  }
  return got.global_scale == want.global_scale ? "" : "global scale differs";
}

inline std::string describe(const ConstMatrix& in, const QuantizeSpec& spec) {
  return std::string(spec.format->name) + " outer " + std::string(name_of(spec.outer)) + " block " +
         std::to_string(spec.block_size()) + " hadamard " + std::to_string(spec.hadamard.size) +
         (spec.rounding == Rounding::kStochastic ? " sr" : " rtne") + (spec.axis == Axis::kRow ? " row" : " column") +
         " of " + std::string(name_of(in.dtype)) + " [" + std::to_string(in.rows) + ", " + std::to_string(in.columns) +
         "] stride " + std::to_string(in.row_stride);
}

}  // namespace ufp4::testing
