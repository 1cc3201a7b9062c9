// How kernels are launched: which of them, how many blocks, and in which order these go through the matrix. Functions
// of the operands and the size of the device alone, apart from the launches, so that they are tested without a device.
#pragma once

#include <cstdint>

#include "cuda/operand.h"

namespace ufp4::cuda {

// What a tile kernel of two operands is compiled for besides policy and rounding.
struct Outputs {
  Span span;
  Output column, row;

  bool operator==(const Outputs&) const = default;
};

// The kernel of two operands of one policy, or of the same twice for one alone: one that knows its results in advance
// if there is one for them, else that of Span::kLanes and Output::kAny.
Outputs outputs_of(const Operand& column, const Operand& row);

inline constexpr int kRowThreads = 256;

// Blocks of threads on a multiprocessor, for which registers are reserved.
constexpr int row_resident(DType type) { return type == DType::kF32 ? 3 : 4; }

// A row kernel: a block is 2^width_log2 runs wide and goes down the rows.
struct RowLaunch {
  int width_log2;
  std::uint32_t across, down;  // blocks
};
RowLaunch row_launch(const Operand& p, DType type, std::int64_t multiprocessors);

inline constexpr int kTileThreads = 256;
inline constexpr int kTileRows = 128;  // the longest block and transform

// Which tiles of a layer are made of the same inputs, and so together.
enum class Pairs : std::uint8_t {
  kNone,
  kHeads,   // a head's halves, half() columns apart
  kHalves,  // those of all columns
};

// What tiles are made from.
struct TileSource {
  std::int64_t rows, columns;
  std::int64_t tile_columns;  // 128 bytes of them
  int passes;                 // over a tile in one orientation
  bool async;                 // a matrix, whose next tiles come while one is worked on; else a layer
  Pairs pairs;
  std::int64_t half;  // of `pairs`
};

// Blocks of threads on a multiprocessor: the registers of a layer's arithmetic are worth more than a fourth block.
constexpr int tile_resident(bool async) { return async ? 4 : 3; }

// The tiles of a matrix, or pairs of neighbours, and their order: down a band of a few, then along the rows, then band
// after band. Those under way together read long pieces of the rows and write whole lines of the operands. Of n blocks
// each takes every n-th; no division is needed to find the next.
//
// A row of one tile has but half a sector of scales, and of FP32 values half a sector of codes; what a warp stores of a
// pair's rows fills whole ones. Of a small matrix there are not enough pairs for all multiprocessors: tiles go alone
// there, and several blocks share the passes over each.
struct TileGrid {
  std::uint32_t count;
  std::uint32_t blocks;
  std::uint32_t width;       // tiles or pairs in a band
  std::uint32_t band_log2;   // of its height in tiles, which divides the matrix
  std::uint32_t step_bands;  // blocks / width
  std::uint32_t step_tiles;  // blocks % width
  std::uint32_t half_step;   // columns between the tiles that a paired source makes together; 0: one at a time
  int abreast_log2;          // of the neighbours whose rows go together: 1 or 2
  int passes;                // of a block: all over its tiles, or some, and as many blocks again make the others
  std::uint32_t shares;      // of the passes over a tile: blocks are launched so many times
};

// One of `column` and `row` may be null.
TileGrid tile_grid(const TileSource& source, const Operand* column, const Operand* row, std::int64_t multiprocessors);

// The kernel of segments (segment_kernel.cuh): what its blocks of threads take at a time.
inline constexpr int kSegmentThreads = 512;
inline constexpr int kSegmentRows = 64;
inline constexpr int kSegmentColumns = 512;
inline constexpr int kLargestCluster = 8;  // what every device with clusters has

// The results that a kernel of segments knows in advance, or Output::kAny for both.
struct SegmentOutputs {
  Output column, row;

  bool operator==(const SegmentOutputs&) const = default;
};
SegmentOutputs segment_outputs_of(const Operand& column, const Operand& row);

// Whether a kernel of segments takes the operand of a matrix of that type, on a device that has clusters.
bool fits_segments(DType dtype, const Operand& p);

// The regions of a matrix, down its rows first. Of n clusters each takes every n-th.
struct SegmentGrid {
  std::uint32_t count;
  std::uint32_t down;  // regions above each other
  std::uint32_t clusters;
  int cluster_log2;  // of its blocks of threads
};

// `column` may be null. `resident`: clusters that the device can hold at once.
SegmentGrid segment_grid(std::int64_t rows, std::int64_t columns, const Operand* column, std::int64_t resident);

}  // namespace ufp4::cuda
