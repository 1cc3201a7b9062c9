// What the kernels read: the matrix, and one quantization of it, as plain data made on the host from the public
// structs.
//
// The words of this folder:
//   operand  what a quantization reads, with its blocks along its rows: the stored matrix or its transpose.
//   run      16 neighbouring values of an operand's row, which one thread holds in registers.
//   group    8 neighbouring values, half a run: one Philox call gives their random bits.
//   lanes    the threads of a warp. A block or a transform longer than a run lies in as many adjacent lanes as it has
//            runs, and these exchange values by shuffles.
//   span     how far blocks and transforms reach beyond a run, which decides what a kernel can leave out.
//   index    the number of a level, with a sign: what rounding gives before it becomes a code or a value.
//   tile     128 stored rows by 128 bytes of their columns, in shared memory: what a block of threads works on.
//   pass     what the threads of a block do at once with a tile: a run each.
//   stage    the place of a tile in shared memory. There are two, so that a tile can come while another is worked on.
//   pair     two tiles that a block of threads takes together. Abreast: side by side in the matrix.
//   band     a few rows of tiles that the blocks of threads go through together.
//   window   the powers of two that a format allows as scales (BlockFormat::window).
//   outer    of the second-level scale. Parts: where rows or tiles of the operand have one each.
//   source   what a tile is filled from: a matrix, or the inputs of a layer that is computed on the way.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cuda/quantize.h"
#include "ufp4/format.h"

namespace ufp4::cuda {

inline constexpr int kRun = 16;

// What the kernels of kInteger have as constants. A format with other numbers has no kernels.
inline constexpr IntegerScales kKernelIntegers{.lowered = 0.09375F, .most_lowered = 0.5F, .least = 0x1p-120F};

// What a kernel is compiled for: how the scale of a block follows, and how a value becomes the index of a level.
// Everything else about a format is data in the Operand.
enum class Policy : std::uint8_t {
  // One FP32 scale a block, from its amax, and levels that are ..
  kUniform,  // 0, d, 2d, .. with d a power of two
  kFloat,    // those of e2m1, or the first few
  kTable,    // any others
  kSigned,   // all sixteen codes of two's complement, under a signed scale
  // Other scales.
  kWindow,        // kSigned with powers of two in a window as scales
  kByteUniform,   // E4M3 under a second-level scale over kUniform's levels
  kByteFloat,     // the same over kFloat's
  kPowerUniform,  // a power of two (E8M0) over kUniform's levels
  kPowerFloat,    // the same over kFloat's
  kBetter,        // kByteFloat or kByteUniform in two ways, the better for each block
  kTwoLevel,      // a scale of 8 bits and one-bit exponents for 8 and for 4 elements
  kInteger,       // kSigned with integers as scales, under a second-level scale for each segment of a row
  // Nothing is quantized: the largest magnitudes are found, or the scales that kSigned would ask for.
  kMeasure,
  kMeasureSigned,
};

// How the levels lie, which decides how a value becomes an index.
enum class Levels : std::uint8_t {
  kUniform,   // the index is t / d, rounded
  kFloat,     // a piecewise linear map to the index, rounded
  kTable,     // compared with every boundary
  kIntegers,  // the index is t, rounded
  kEither,    // kUniform or kFloat, decided for each block
};

constexpr Levels levels_of(Policy policy) {
  switch (policy) {
    case Policy::kFloat:
    case Policy::kByteFloat:
    case Policy::kPowerFloat: return Levels::kFloat;
    case Policy::kTable: return Levels::kTable;
    case Policy::kSigned:
    case Policy::kWindow:
    case Policy::kInteger:
    case Policy::kMeasureSigned: return Levels::kIntegers;
    case Policy::kBetter: return Levels::kEither;
    case Policy::kUniform:
    case Policy::kByteUniform:
    case Policy::kPowerUniform:
    case Policy::kTwoLevel:
    case Policy::kMeasure: break;
  }
  return Levels::kUniform;
}

// Whether a block's scale follows from that of the second level.
constexpr bool is_relative(Policy policy) {
  return policy == Policy::kByteUniform || policy == Policy::kByteFloat || policy == Policy::kBetter;
}

// Whether it is a power of two, by which products are exact.
constexpr bool is_power(Policy policy) { return policy == Policy::kPowerUniform || policy == Policy::kPowerFloat; }

// Whether the scale has a sign.
template <Policy kPolicy>
inline constexpr bool kSignedScale = levels_of(kPolicy) == Levels::kIntegers;

// Whether values may be rounded beyond the last level, on both sides alike: their indices are clipped. An E4M3 scale is
// at most one part in 16 too small, which is not half a step more than any of the eight levels.
template <Policy kPolicy, bool kStochastic>
inline constexpr bool kBounded = (is_relative(kPolicy) && kStochastic) ||
                                 is_power(kPolicy) || kPolicy == Policy::kTwoLevel;

// Whether nothing is quantized.
constexpr bool only_measures(Policy policy) { return policy == Policy::kMeasure || policy == Policy::kMeasureSigned; }

// Whether rounding to nearest may give integers beyond -8 .. 7, which are clipped.
template <Policy kPolicy>
inline constexpr bool kClipped = kPolicy == Policy::kWindow || kPolicy == Policy::kInteger;

// Whether packed scales are not the FP32 scales.
constexpr bool has_scale_bytes(Policy policy) {
  return policy == Policy::kWindow || policy == Policy::kTwoLevel || policy == Policy::kInteger ||
         is_relative(policy) || is_power(policy);
}

// How far blocks and transforms reach, from the least to the most. Where random bits are drawn, operands that begin
// within a group and rows that have numbers of their own belong to the last.
enum class Span : std::uint8_t {
  kOneRun,  // blocks of a run, transforms of a run or none
  kRuns,    // blocks of any length, transforms of a run or none
  kLanes,   // any
};

// The span of the kernels that know their results in advance; operands beyond it take those of Span::kLanes.
constexpr Span fast_span(Policy policy) {
  const bool longer = policy == Policy::kByteUniform || policy == Policy::kByteFloat || is_power(policy) ||
                      policy == Policy::kTwoLevel || only_measures(policy);
  return longer ? Span::kRuns : Span::kOneRun;
}

// The results that are written, where kernels know them in advance.
enum class Output : std::uint8_t {
  kAny,
  kPacked,  // codes and scales, as the format stores them
  kBf16,    // BF16 values
  kE4m3,    // E4M3 values
  kInt8,    // integers
};

// How the scale of a block is stored when packed.
enum class ScaleCode : std::uint8_t { kF32, kE4m3, kE8m0, kE6m2, kInt8 };

// How packed scales of that encoding are read and written.
ScaleCode scale_code(ScaleEncoding encoding);

struct Matrix {
  const void* data;
  std::uint32_t rows, columns;
  std::int64_t row_stride;
  bool vector_rows;  // every row starts at a multiple of 16 bytes
};

// A number that is divided by: its reciprocal, rounded, and what that lacks (see divide_by).
struct Divisor {
  float reciprocal, rest;
};
Divisor divisor_of(float x);

// How levels of kUniform and kFloat are mapped to indices. The steps of e2m1 are 1/2 below 2, then 2^(e-1) in
// [2^e, 2^(e+1)): near zero the index is t * 2 / near with near = 1, and from 2 on the power of two of t takes the
// place of near. Uniform levels have near = 2d everywhere.
struct LevelMap {
  std::uint32_t uniform;  // all ones, or 0
  std::uint32_t near;     // the bits of a power of two
};
inline constexpr LevelMap kFloatMap{0, 0x3F800000u};

// One of the two ways of kBetter.
struct Choice {
  LevelMap map;
  float largest;          // L of its elements
  float base_divisor;     // amax / this is brought to E4M3 ..
  Divisor base;           // (of base_divisor)
  float base_factor;      // .. times this
  std::uint32_t highest;  // the largest index, as clip_indices takes it
};

struct Operand {
  Policy policy;
  Span span;
  bool stochastic;

  // The element format.
  bool sign_magnitude;    // else two's complement
  float largest;          // L
  Divisor level;          // of L
  float index_factor;     // uniform levels: 1 / d, or for stochastic rounding -1 / d less half an ulp (round_to_index)
  float step;             // uniform levels: d
  float values[32];       // of the 16 codes, and of those of the alternative
  int level_count;        // entries of `levels`
  std::uint32_t highest;  // kBounded: the largest index, in both halves of a word
  float levels[8];
  float boundaries[7];  // kTable: the index for nearest is the number of boundaries below t

  // Transform and block.
  int hadamard;
  float hadamard_scale;
  std::uint32_t signs[4];
  float relative_signs[15];  // transforms of a run: of the butterflies, stride after stride (see signed_butterfly)
  float run_factor;          // transforms of a run: what is left to multiply, 1 without a transform
  int lanes;                 // runs in a block: 1, 2, 4 or 8
  int lanes_shift;           // its log2

  // The second-level scale: amax of what shares one / outer_divisor; 0 below least_amax.
  float outer_divisor;  // 0: there is none
  Divisor outer;        // of outer_divisor
  bool outer_exact;     // whether divide_by is right for outer_divisor
  float least_amax;
  const float* outer_amax;
  bool finds_outer;             // what it follows from is found by the kernel that quantizes (segment_kernel.cuh) ..
  float* outer_scales;          // .. which writes it there, unless null
  bool outer_parts;             // more than one
  std::uint32_t outer_shift;    // log2 of the rows that share one
  std::uint32_t outer_columns;  // of parts: how many along a row ..
  std::uint32_t outer_column_shift;  // .. and the log2 of the columns of each, where there is more than one

  // kWindow: tau of numerics, and the bits of FP32 numbers.
  float tau;
  std::uint32_t round_up;       // what carries into the exponent of r if its mantissa is beyond that of tau
  std::uint32_t least_power;    // the ends of the window
  std::uint32_t largest_power;  //
  float largest_reach;          // the largest r in the window
  std::uint32_t least_reach;    // an r below which blocks are rare
  std::uint32_t reach_span;     // largest_reach less least_reach

  // kByte..: E4M3 of amax / L, instead of amax * (1 / L).
  bool divided;

  // kPower..: from the exponent of amax.
  std::uint32_t largest_exponent;  // of L, where FP32 numbers have it
  float least_divisor;             // what values are divided by at least

  // kBetter. Errors found in any order are within `doubt`, of themselves and one step more, of those of numerics.
  Choice choices[2];
  float doubt;

  // Random bits.
  std::uint32_t round_keys[20];             // of the ten Philox rounds, two a round
  std::uint32_t first_x, first_y, first_z;  // what the first round makes of key, step and stream
  std::uint32_t stream;
  DevicePlace device;
  bool of_columns;  // the rows of the stored matrix are columns of the operand
  const std::uint32_t* row_numbers;
  std::uint32_t row_offset, column_offset;

  // The results and their shape: null is not written.
  Output output;
  std::uint8_t* codes;
  float* scales;
  void* dequantized;
  bool dequantized_f32;
  std::uint8_t* e4m3;
  std::int8_t* int8;
  std::uint8_t* packed_scales;
  ScaleCode scale_code;
  std::uint8_t* selectors;
  bool has_selectors;
  float* amax;  // where nothing is quantized: as many as there are second-level scales
  std::uint32_t* clipped;
  const std::uint32_t* only_if;  // nothing is done where this is 0
  std::uint32_t rows, columns;   // of the operand, padded
  std::uint32_t runs_per_row;
};

// Rows and columns are 32-bit numbers, and what is added to them within a tile must not wrap.
inline constexpr std::int64_t kLargestDimension = 0xFFFFFFFF - 1024;

// Throws InputError for an invalid spec, one that there are no kernels for, or a dimension beyond kLargestDimension.
Operand make_operand(std::int64_t rows, std::int64_t columns, const DeviceTask& task);
Operand make_operand(std::int64_t rows, std::int64_t columns, const AmaxTask& task);

// The operands of a call: every column operand takes a row operand along that a tile can serve too.
struct OperandPairs {
  struct Tile {
    Operand column;
    std::optional<Operand> row;
  };
  // Operands that find their second-level scales themselves; one of them at least.
  struct Segments {
    std::optional<Operand> column, row;
  };
  std::vector<Tile> tiles;
  std::vector<Operand> rows;  // that go alone
  std::vector<Segments> segments;
};

// Throws InputError as make_operand does, and for results that are of a wrong type or not aligned.
OperandPairs make_operands(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const DeviceTask> tasks);
OperandPairs make_operands(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const AmaxTask> tasks);

// How far blocks and transforms of a row operand reach in a tile of BF16 values.
inline constexpr int kTileRowReach = 64;

// Whether the blocks and transforms of a row operand lie within a tile, and a tile kernel knows its policy.
bool fits_tile(DType dtype, const Operand& row);

}  // namespace ufp4::cuda
