// Quantization of a matrix to a 4-bit block format, and back. The arithmetic is specified to the bit in
// docs/numerics.md: every backend gives the same codes and scales.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "ufp4/dtype.h"

namespace ufp4 {

struct BlockFormat;  // ufp4/format.h

enum class Rounding : std::uint8_t { kNearest, kStochastic };

// Along which axis of the stored matrix the blocks run. The operand of kColumn is the transposed matrix.
enum class Axis : std::uint8_t { kRow, kColumn };

// The random Hadamard transform y = x S H_n / sqrt(n) on each run of n values along the blocks.
struct Hadamard {
  int size = 0;                          // n: 0 (no transform), 16, 32, 64 or 128
  std::array<std::uint32_t, 4> signs{};  // bit i (of word i / 32) set: element i of each run is negated
  bool round_to_bf16 = false;            // the result is rounded to BF16, as TransformerEngine does
};

// The transform of size n with the mask that the seed gives: Philox with key `seed`, counter (0, 0, 0, 0xFFFFFFFF);
// the low n bits of its 128.
Hadamard make_hadamard(int size, std::uint64_t seed);

// Where the random bits of stochastic rounding come from. Element (r, c) of the operand draws from the Philox counter
// ((c + column_offset) / 8, r + row_offset, step, stream): a shard with its offsets gets the bits of the whole operand.
// Offsets are in the operand's coordinates: for Axis::kColumn a row is a column of the stored matrix.
struct RandomBits {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t stream = 0;
  std::uint32_t row_offset = 0;
  std::uint32_t column_offset = 0;
  // For kernels on a GPU: where in its memory the step is read when the kernel runs, instead of `step`, so that
  // recorded work can be replayed in another step. Other backends do not look at it.
  const std::uint32_t* device_step = nullptr;
};

// The values of the operand that share a second-level scale, for formats that let the caller choose (int4_p2).
enum class OuterScale : std::uint8_t { kTensor, kRow, k1x128, k128x128 };

inline constexpr std::array kOuterScales{OuterScale::kTensor, OuterScale::kRow, OuterScale::k1x128,
                                         OuterScale::k128x128};

constexpr std::string_view name_of(OuterScale outer) {
  switch (outer) {
    case OuterScale::kTensor: return "tensor";
    case OuterScale::kRow: return "row";
    case OuterScale::k1x128: return "1x128";
    case OuterScale::k128x128: return "128x128";
  }
  return "?";
}

// The one of that name. Throws InputError that lists the names.
OuterScale find_outer_scale(std::string_view name);

// How to quantize one operand.
struct QuantizeSpec {
  const BlockFormat* format = nullptr;
  int block = 0;  // 0: the format's own; else one of kBlockSizes
  Axis axis = Axis::kRow;
  Rounding rounding = Rounding::kNearest;
  Hadamard hadamard;
  RandomBits random;  // read for Rounding::kStochastic only
  OuterScale outer = OuterScale::kTensor;
  // The largest magnitude of the whole operand after the transform, over its finite blocks, where `in` is only a part
  // of it and the format has a second-level scale for the tensor; negative: computed from `in`.
  // Backend::tensor_amax computes it.
  float tensor_amax = -1;
  // The same for each value of the outer_shape, of any `outer`; null: computed from `in`. Backend::raise_outer_amax
  // computes it.
  const float* outer_amax = nullptr;
  // int4_p2: how far the extreme of a block may lie beyond its scale's range before the next power of two is taken, 9/8
  // or 1; 0: 9/8 for nearest, 1 for stochastic rounding.
  float tau = 0;

  int block_size() const;
  // Whether a pass over the whole matrix must come before its quantization.
  bool outer_amax_unknown() const;
};

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

// The shape that quantizing a [rows, columns] matrix gives. Throws InputError for a spec that is not valid.
QuantizedShape quantized_shape(std::int64_t rows, std::int64_t columns, const QuantizeSpec& spec);

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
                                           // second level unless it is the tensor's
  void* dequantized = nullptr;             // [rows, columns]: level * scale (* global scale), FP32 or rounded to BF16
  DType dequantized_dtype = DType::kBF16;  // kF32 or kBF16
  float* global_scale = nullptr;           // one value: the tensor's second-level scale, 1 where the format has none
  std::uint8_t* selectors = nullptr;       // [rows, columns / selector_block]: which alternative; a part's exponent
  // [rows, columns / block * format.packed_scale_bytes()]: the scales, without those of the second level, and the
  // selectors as the format stores them (docs/formats.md).
  std::uint8_t* packed_scales = nullptr;
  float* outer_scales = nullptr;  // [outer_shape]: the second-level scales, 1 where the format has none
  // Only for formats whose scales are powers of two in a window (int4_p2).
  std::uint8_t* e4m3 = nullptr;      // [rows, columns]: level * scale without the second level, exact, as E4M3 bytes
  float* amax = nullptr;             // one value, raised to what Backend::tensor_amax gives (by one thread)
  std::uint32_t* clipped = nullptr;  // one value, raised by the number of blocks that are too large for the window
};

// One quantization of the matrix at hand.
struct QuantizeTask {
  QuantizeSpec spec;
  Quantized out;
  // For kernels on a GPU and formats with a window of scales: a number in device memory; where it is 0 the results are
  // left as they are. Two tasks that read the matrix once are left alone only if both numbers are 0.
  const std::uint32_t* only_if = nullptr;
};

// What dequantize reads: arrays as quantize wrote them.
struct ConstQuantized {
  const BlockFormat* format = nullptr;
  int block = 0;  // 0: the format's own
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // padded
  const std::uint8_t* codes = nullptr;
  const float* scales = nullptr;
  float global_scale = 1.0F;
  const std::uint8_t* selectors = nullptr;  // for formats with a selector_block
  // If given, read in place of `scales`, `selectors` and `global_scale`.
  const std::uint8_t* packed_scales = nullptr;
  OuterScale outer = OuterScale::kTensor;
  const float* outer_scales = nullptr;
};

}  // namespace ufp4
