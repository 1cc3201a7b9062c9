// A matrix for tests: any input type, any place in its memory, and values that quantization may get wrong.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "ufp4/quantize.h"

namespace ufp4::testing {

// How a matrix lies in its memory, in elements.
struct Layout {
  std::int64_t padding = 0;  // between the rows
  std::int64_t shift = 0;    // before the first element
};

// A row-major matrix that owns its bytes. What lies before and between its rows is NaN.
struct Matrix {
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;
  std::int64_t shift = 0;
  std::vector<std::uint8_t> bytes;

  Matrix() = default;
  // Of zeros.
  Matrix(std::int64_t row_count, std::int64_t column_count, DType type = DType::kF32, const Layout& layout = {});

  float get(std::int64_t row, std::int64_t column) const;
  // Rounded to the type.
  void set(std::int64_t row, std::int64_t column, float value);
  // As bits of the type: the low half of `bits` for 16-bit types.
  void set_bits(std::int64_t row, std::int64_t column, std::uint32_t bits);

  // Every element in turn: the next value of `next`, or what `change` makes of the element.
  void fill(const std::function<float()>& next);
  void transform(const std::function<float(float)>& change);

  // All of it; a part of it; all of it within a copy of `bytes` in another memory.
  ConstMatrix view() const { return view(bytes.data()); }
  ConstMatrix view(std::int64_t row, std::int64_t column, std::int64_t row_count, std::int64_t column_count) const;
  ConstMatrix view(const void* copy) const;
};

enum class Values : std::uint8_t {
  kNormal,   // standard normal ones
  kUneven,   // normal ones, in rows of several sizes
  kTies,     // multiples of a fourth up to 7: ties of most grids
  kHostile,  // rows of any size with runs of zeros, and values at the ends of FP32, subnormal and non-finite ones
  kPatches,  // patches of 16 x 16 between normal values: ties, zeros of both signs, a size, huge or non-finite values
};

// The element at (row, column) depends on these two, the kind and the seed alone. Made by all cores.
Matrix make_matrix(std::int64_t rows, std::int64_t columns, DType dtype, Values kind, std::uint64_t seed,
                   const Layout& layout = {});

// One value of a kind, of 64 random bits.
float normal_value(std::uint64_t bits);
float hostile_value(std::uint64_t bits);

// Rows and columns exchanged, dense.
Matrix transposed(const Matrix& in);

// Some rows of it, in this order, dense.
Matrix gathered(const Matrix& in, const std::vector<std::uint32_t>& rows);

// f(first, last) for parts of `rows` by all cores; parts begin at multiples of 128 rows.
void in_slabs(std::int64_t rows, const std::function<void(std::int64_t, std::int64_t)>& f);

}  // namespace ufp4::testing
