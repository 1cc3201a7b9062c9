// What the kernels read: the matrix, and one quantization of it, as plain data made on the host from the public
// structs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ufp4/quantize.h"

namespace ufp4::cuda {

// A thread works on a run of this many elements along the blocks; longer blocks and transforms span adjacent lanes.
inline constexpr int kRun = 16;

// How the levels are laid out, which decides how a value becomes the index of a level.
enum class Grid : std::uint8_t {
  kUniform,  // 0, d, 2d, .. with d a power of two: the index is t / d, rounded
  kSigned,   // all sixteen codes of two's complement: the larger extreme takes -8 (int4_full)
  kFloat,    // the levels of e2m1, or the first few: a piecewise linear map to the index, rounded
  kTable,    // anything else: compared with every boundary
  kWindow,   // kSigned with scales that are powers of two in a window (int4_p2)
};

// Whether the scale has a sign.
template <Grid kGrid>
inline constexpr bool kSignedScale = kGrid == Grid::kSigned || kGrid == Grid::kWindow;

// How far blocks and transforms reach, which decides what a kernel leaves out.
enum class Span : std::uint8_t {
  kOneRun,  // blocks of a run, transforms of a run or none
  kLanes,   // any: they may span adjacent lanes
};

// Bits of FP32 numbers of kWindow: the ends of the window, and an r below which blocks are rare.
inline constexpr std::uint32_t kLeastPower = 0x3B000000u;    // 2^-9
inline constexpr std::uint32_t kLargestPower = 0x42000000u;  // 2^5
inline constexpr std::uint32_t kLeastReach = 0x35800000u;    // 2^-20

// The results that are written, where kernels know them in advance.
enum class Output : std::uint8_t {
  kAny,
  kPacked,  // codes and scales, of kWindow as bytes
  kBf16,    // BF16 values
  kE4m3,    // E4M3 values
};

struct Matrix {
  const void* data;
  std::uint32_t rows, columns;
  std::int64_t row_stride;
  bool vector_rows;  // every row starts at a multiple of 16 bytes
};

struct Operand {
  // The element format.
  Grid grid;
  Span span;
  bool stochastic;
  bool sign_magnitude;    // else two's complement
  float largest;          // L
  float reciprocal;       // 1 / L
  float reciprocal_rest;  // 1 / L less `reciprocal`
  float index_factor;     // kUniform: 1 / d, or for stochastic rounding -1 / d less half an ulp (see round_to_index)
  float step;             // kUniform: d
  float values[16];       // of the 16 codes
  int level_count;        // kTable: entries of `levels`
  float levels[8];
  float boundaries[7];  // kTable: the index for nearest is the number of boundaries below t

  // Transform and block.
  int hadamard;
  float hadamard_scale;
  std::uint32_t signs[4];
  float relative_signs[15];  // kOneRun: of the butterflies, stride after stride (see signed_butterfly)
  float run_factor;          // kOneRun: what is left to multiply, 1 without a transform
  int lanes;                 // runs in a block: 1, 2, 4 or 8
  int lanes_shift;           // its log2

  // kWindow: the amax of the tensor, at a place in device memory or as a value, and tau of numerics.
  const float* tensor_amax_at;
  float tensor_amax;
  float tau;
  std::uint32_t round_up;    // what carries into the exponent of r if its mantissa is beyond that of tau
  std::uint32_t reach_span;  // the bits of the largest r in the window, 32 tau, less kLeastReach

  // Random bits.
  std::uint32_t round_keys[20];             // of the ten Philox rounds, two a round
  std::uint32_t first_x, first_y, first_z;  // what the first round makes of key, step and stream
  const std::uint32_t* device_step;         // stands for that step where it is not null
  std::uint32_t row_offset, column_offset;

  // The results and their shape: null is not written.
  Output output;
  std::uint8_t* codes;
  float* scales;
  void* dequantized;
  bool dequantized_f32;
  std::uint8_t* e4m3;
  std::uint8_t* packed_scales;  // kWindow
  float* amax;
  std::uint32_t* clipped;
  const std::uint32_t* only_if;  // kWindow: nothing is done where this is 0
  std::uint32_t rows, columns;   // of the operand, padded
  std::uint32_t runs_per_row;
};

// Rows and columns are 32-bit numbers, and what is added to them within a tile must not wrap.
inline constexpr std::int64_t kLargestDimension = 0xFFFFFFFF - 1024;

// Throws InputError for an invalid spec or a dimension beyond kLargestDimension.
Operand make_operand(std::int64_t rows, std::int64_t columns, const QuantizeTask& task);

// The operands of a call: every column operand takes a row operand along that a tile can serve too.
struct OperandPairs {
  struct Tile {
    Operand column;
    std::optional<Operand> row;
  };
  std::vector<Tile> tiles;
  std::vector<Operand> rows;  // that go alone
};

// Throws InputError as make_operand does, and for results that are of a wrong type or not aligned.
OperandPairs make_operands(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const QuantizeTask> tasks);

// How far blocks and transforms of a row operand reach in a tile of BF16 values.
inline constexpr int kTileRowReach = 64;

// Whether the blocks and transforms of a row operand lie within a tile, and a tile kernel knows its grid.
bool fits_tile(DType dtype, const Operand& row);

}  // namespace ufp4::cuda
