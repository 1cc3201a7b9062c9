// Quantization of a matrix to a 4-bit block format, and back. The arithmetic is specified to the bit in
// docs/numerics.md: every backend gives the same codes and scales.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "ufp4/dtype.h"
#include "ufp4/operand.h"

namespace ufp4 {

// A row-major matrix in memory.
struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;  // elements from a row to the next, at least `columns`
};

// Rows [first, last) of a stored matrix.
struct RowRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

// Shape of a quantized operand: of the transposed matrix for Axis::kColumn.
struct QuantizedShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;         // padded with zeros to a multiple of the block and of the transform
  std::int64_t valid_columns = 0;   // as given, without the padding
  std::int64_t scales_per_row = 0;  // columns / block

  std::int64_t codes_per_row() const { return columns / 2; }  // bytes
};

// The shape that quantizing a stored [rows, columns] matrix gives. Throws InputError for a spec that is not valid.
QuantizedShape quantized_shape(std::int64_t rows, std::int64_t columns, const OperandSpec& spec, Axis axis);

// How many second-level scales an operand has, and how many of its values share one.
struct OuterShape {
  std::int64_t rows = 1;
  std::int64_t columns = 1;
  std::int64_t rows_each = 1;
  std::int64_t columns_each = 1;

  std::int64_t index(std::int64_t row, std::int64_t column) const {
    return row / rows_each * columns + column / columns_each;
  }
};
OuterShape outer_shape(const QuantizedShape& shape, OuterScale outer);

// Where the results go; what is null is not written. Dense row-major arrays of the QuantizedShape.
struct Quantized {
  std::uint8_t* codes = nullptr;           // [rows, columns / 2]: two codes a byte, the even element in the low nibble
  float* scales = nullptr;                 // [rows, columns / block]: the decoded scale of each block, with that of the
                                           // second level unless that stays apart (BlockFormat)
  void* dequantized = nullptr;             // [rows, columns]: level * scale (* global scale), FP32 or rounded to BF16
  DType dequantized_dtype = DType::kBF16;  // kF32 or kBF16
  std::uint8_t* selectors = nullptr;       // [rows, columns / selector_block]: which alternative; a part's exponent
  // [rows, columns / block * format.packed_scale_bytes()]: the scales, without those of the second level, and the
  // selectors as the format stores them (docs/formats.md).
  std::uint8_t* packed_scales = nullptr;
  float* outer_scales = nullptr;  // [outer_shape]: the second-level scales, 1 where the format has none
  // Only for formats with ExactValue::kE4m3.
  std::uint8_t* e4m3 = nullptr;  // [rows, columns]: level * scale without the second level, exact, as E4M3 bytes
  // Only for formats with ExactValue::kInt8.
  std::int8_t* int8 = nullptr;  // [rows, columns]: the same, as integers
  // Only for formats with a window.
  float* amax = nullptr;             // one value, raised to what Backend::tensor_amax gives (by one thread)
  std::uint32_t* clipped = nullptr;  // one value, raised by the number of blocks that are too large for the window
};

// One quantization of the matrix at hand.
struct QuantizeTask {
  OperandSpec spec;
  Place place;
  Quantized out;
  // The largest magnitude, after the transform, over the finite blocks of whatever shares a second-level scale,
  // [outer_shape] of the whole operand: for a matrix that is quantized in parts. Null: found in the matrix.
  // Backend::raise_outer_amax computes it, in formats of outer_of_extremes() with a sign where a block is not finite.
  const float* outer_amax = nullptr;

  // Whether a pass over the whole matrix must come before its quantization.
  bool outer_amax_unknown() const;
};

// What dequantize reads: arrays as quantize wrote them.
struct ConstQuantized {
  const BlockFormat* format = nullptr;
  int block = 0;  // 0: the format's own
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // padded
  const std::uint8_t* codes = nullptr;
  const float* scales = nullptr;
  const std::uint8_t* selectors = nullptr;  // for formats with a selector_block
  // If given, read in place of `scales` and `selectors`.
  const std::uint8_t* packed_scales = nullptr;
  // The second-level scales: those that stay apart from `scales`, or with packed_scales those of `outer`. Null: 1.
  OuterScale outer = OuterScale::kTensor;
  const float* outer_scales = nullptr;
};

}  // namespace ufp4
