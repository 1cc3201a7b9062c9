// A matrix and what a backend makes of it, for tests that run the same cases on every backend.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "ufp4/backend.h"

namespace ufp4 {

// A dense row-major matrix of any input type, kept as its bits.
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  DType dtype = DType::kF32;
  std::vector<float> f32;             // kF32
  std::vector<std::uint16_t> halves;  // kBF16, kF16

  Matrix(std::int64_t row_count, std::int64_t column_count, DType type = DType::kF32)
      : rows(row_count), columns(column_count), dtype(type) {
    const auto size = static_cast<std::size_t>(row_count * column_count);
    type == DType::kF32 ? f32.resize(size) : halves.resize(size);
  }

  float get(std::int64_t r, std::int64_t c) const {
    const auto i = static_cast<std::size_t>(r * columns + c);
    return dtype == DType::kF32 ? f32[i] : dtype == DType::kBF16 ? bf16_to_float(halves[i]) : f16_to_float(halves[i]);
  }
  void set(std::int64_t r, std::int64_t c, float value) {
    const auto i = static_cast<std::size_t>(r * columns + c);
    if (dtype == DType::kF32) {
      f32[i] = value;
    } else {
      halves[i] = dtype == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
    }
  }
  // Rows [first_row, + row_count) and columns likewise, without a copy.
  ConstMatrix view(std::int64_t first_row, std::int64_t first_column, std::int64_t row_count,
                   std::int64_t column_count) const {
    const std::int64_t offset = first_row * columns + first_column;
    const void* data = dtype == DType::kF32 ? static_cast<const void*>(f32.data() + offset)
                                            : static_cast<const void*>(halves.data() + offset);
    return {data, dtype, row_count, column_count, columns};
  }
  ConstMatrix view() const { return view(0, 0, rows, columns); }
  Matrix transposed() const {
    Matrix result(columns, rows, dtype);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const auto from = static_cast<std::size_t>(r * columns + c);
        const auto to = static_cast<std::size_t>(c * rows + r);
        dtype == DType::kF32 ? void(result.f32[to] = f32[from]) : void(result.halves[to] = halves[from]);
      }
    }
    return result;
  }
};

// Everything that quantize can write.
struct Operand {
  QuantizedShape shape;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> dequantized;

  Operand(const ConstMatrix& in, const QuantizeSpec& spec)
      : shape(quantized_shape(in.rows, in.columns, spec)),
        codes(static_cast<std::size_t>(shape.rows * shape.codes_per_row()), 0xAA),
        scales(static_cast<std::size_t>(shape.rows * shape.scales_per_row), -1),
        dequantized(static_cast<std::size_t>(shape.rows * shape.columns), -1) {}

  Quantized arrays() { return {codes.data(), scales.data(), dequantized.data(), DType::kF32, nullptr}; }
  unsigned code(std::int64_t r, std::int64_t c) const {
    return (codes[static_cast<std::size_t>((r * shape.columns + c) / 2)] >> (4 * (c % 2))) & 0xFu;
  }
  float scale(std::int64_t r, std::int64_t block) const {
    return scales[static_cast<std::size_t>(r * shape.scales_per_row + block)];
  }
  float value(std::int64_t r, std::int64_t c) const {
    return dequantized[static_cast<std::size_t>(r * shape.columns + c)];
  }
};

inline Operand quantize(const Backend& backend, const ConstMatrix& in, const QuantizeSpec& spec) {
  Operand operand(in, spec);
  const QuantizeTask task{spec, operand.arrays()};
  backend.quantize(in, std::span(&task, 1));
  return operand;
}

// The bits of a float; every NaN counts as the same.
inline std::uint32_t bits_of(float value) {
  return std::isnan(value) ? 0x7FC00000u : std::bit_cast<std::uint32_t>(value);
}

inline ::testing::AssertionResult same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << "sizes " << a.size() << " and " << b.size();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (bits_of(a[i]) == bits_of(b[i])) continue;
    return ::testing::AssertionFailure() << "first difference at " << i << ": " << a[i] << " and " << b[i];
  }
  return ::testing::AssertionSuccess();
}

inline ::testing::AssertionResult same_bits(const Operand& a, const Operand& b) {
  for (std::int64_t r = 0; r < a.shape.rows; ++r) {
    for (std::int64_t c = 0; c < a.shape.columns; ++c) {
      if (a.code(r, c) == b.code(r, c)) continue;
      return ::testing::AssertionFailure()
             << "codes differ first at [" << r << ", " << c << "]: " << a.code(r, c) << " and " << b.code(r, c);
    }
  }
  for (const auto& [name, x, y] :
       {std::tuple{"scales", &a.scales, &b.scales}, {"values", &a.dequantized, &b.dequantized}}) {
    ::testing::AssertionResult result = same_bits(*x, *y);
    if (!result) return result << " (" << name << ")";
  }
  return ::testing::AssertionSuccess();
}

inline QuantizeSpec spec_of(std::string_view format, Rounding rounding = Rounding::kNearest, int hadamard = 0,
                            Axis axis = Axis::kRow, int block = 0) {
  QuantizeSpec spec;
  spec.format = &find_format(format);
  spec.block = block;
  spec.axis = axis;
  spec.rounding = rounding;
  spec.hadamard = make_hadamard(hadamard, 99);
  spec.random = {.seed = 5, .step = 6, .stream = 7, .row_offset = 0, .column_offset = 0};
  return spec;
}

// The cases run once for each backend that this machine has.
class EveryBackend : public ::testing::TestWithParam<const Backend*> {
 protected:
  const Backend& backend() const { return *GetParam(); }
};

inline std::vector<const Backend*> available_backends() {
  std::vector<const Backend*> list;
  for (const Backend* backend : backends()) {
    if (backend->available()) list.push_back(backend);
  }
  return list;
}

inline std::string name_of_case(const ::testing::TestParamInfo<const Backend*>& info) {
  return std::string(info.param->name());
}

}  // namespace ufp4

// NOLINTBEGIN(bugprone-macro-parentheses): the name of a type
#define UFP4_EVERY_BACKEND(suite)     \
  using suite = ::ufp4::EveryBackend; \
  INSTANTIATE_TEST_SUITE_P(, suite, ::testing::ValuesIn(::ufp4::available_backends()), ::ufp4::name_of_case)
// NOLINTEND(bugprone-macro-parentheses)
