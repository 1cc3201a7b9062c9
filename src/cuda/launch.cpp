#include "cuda/launch.h"

#include <algorithm>

namespace ufp4::cuda {
namespace {

// Rows of a thread that writes values. They are as large as the input, and where threads stay for many rows their
// blocks drift apart and do not fill lines of memory at one time: 193 us instead of 135 (docs/performance.md). With one
// row no read would be under way while a thread works.
constexpr std::int64_t kRowsOfValues = 6;

// The widest block that leaves few threads idle. Blocks and transforms span a power of two of runs that divides a row.
int row_width_log2(std::int64_t runs_per_row) {
  int width_log2 = 8;
  while (width_log2 > 0) {
    const std::int64_t padded = (runs_per_row + (1 << width_log2) - 1) >> width_log2 << width_log2;
    if (padded * 15 <= runs_per_row * 16) break;
    --width_log2;
  }
  return width_log2;
}

// Whether there is a kernel of `policy` that knows these results in advance.
bool known(Policy policy, Output column, Output row) {
  const auto are = [&](Output of_column, Output of_row) { return column == of_column && row == of_row; };
  if (policy == Policy::kTable || only_measures(policy)) return false;
  if (are(Output::kPacked, Output::kPacked) || are(Output::kPacked, Output::kBf16)) return true;
  if (are(Output::kBf16, Output::kBf16)) return true;
  if (policy == Policy::kInteger) return are(Output::kPacked, Output::kInt8) || are(Output::kInt8, Output::kInt8);
  return policy == Policy::kWindow && (are(Output::kPacked, Output::kE4m3) || are(Output::kE4m3, Output::kE4m3));
}

// How many blocks take the tiles, in whole fillings of the multiprocessors. If a block has one tile, nothing is loaded
// while it works; if it has many, blocks that do not progress evenly drift apart, and neither lines of memory that
// several of them write nor the end of the matrix are complete at one time. Where more is calculated, two pairs a block
// are faster than one. A tile of a layer has no other on its way. What is measured: docs/performance.md.
std::int64_t tile_blocks(bool async, const Operand& any, bool paired, std::int64_t count, std::int64_t filling) {
  const bool heavy = any.stochastic || any.policy == Policy::kWindow || any.policy == Policy::kInteger ||
                     any.policy == Policy::kBetter;
  const int tiles = !async ? (paired ? 1 : 4) : heavy ? 2 : 1;
  const bool seldom = any.only_if != nullptr;  // seldom anything to do
  const std::int64_t fillings =
      seldom ? 1 : std::max<std::int64_t>(1, (count + tiles * filling / 2) / (tiles * filling));
  return std::min(count, fillings * filling);
}

std::uint32_t u32(std::int64_t x) { return static_cast<std::uint32_t>(x); }

}  // namespace

Outputs outputs_of(const Operand& column, const Operand& row) {
  const Span fast = fast_span(column.policy);
  const bool within = std::max(column.span, row.span) <= fast;
  if (within && only_measures(column.policy)) return {fast, Output::kAny, Output::kAny};
  if (within && known(column.policy, column.output, row.output)) return {fast, column.output, row.output};
  return {Span::kLanes, Output::kAny, Output::kAny};
}

RowLaunch row_launch(const Operand& p, DType type, std::int64_t multiprocessors) {
  const std::int64_t runs_per_row = p.columns / kRun;
  const int width_log2 = row_width_log2(runs_per_row);
  const std::int64_t across = (runs_per_row + (1 << width_log2) - 1) >> width_log2;
  const std::int64_t rows_per_block = kRowThreads >> width_log2;
  const std::int64_t down = (std::int64_t{p.rows} + rows_per_block - 1) / rows_per_block;
  // Packed: threads that stay, for rows few blocks wide and where memory is the limit; else a few waves, which balance
  // what does not divide evenly and blocks that do not progress evenly.
  const std::int64_t filling = multiprocessors * row_resident(type);
  const bool light = !p.stochastic && p.hadamard <= kRun &&
                     (p.policy == Policy::kUniform || p.policy == Policy::kSigned || p.policy == Policy::kTable ||
                      p.policy == Policy::kWindow || only_measures(p.policy));
  const int waves = light && across * 8 <= filling ? 1 : 4;
  const std::int64_t wanted = p.dequantized != nullptr ? (down + kRowsOfValues - 1) / kRowsOfValues
                                                       : std::max<std::int64_t>(1, waves * filling / across);
  return {width_log2, u32(across), u32(std::min({down, wanted, std::int64_t{65535}}))};
}

TileGrid tile_grid(const TileSource& source, const Operand* column, const Operand* row, std::int64_t multiprocessors) {
  const std::int64_t filling = multiprocessors * tile_resident(source.async);
  const std::int64_t down = (source.rows + kTileRows - 1) / kTileRows;
  std::int64_t across = (source.columns + source.tile_columns - 1) / source.tile_columns;
  std::int64_t half_step = 0;
  int abreast_log2 = 0;
  if (source.async) {
    if (down * across > filling) {
      abreast_log2 = 1;
      across = (across + 1) / 2;
    }
  } else if (source.pairs != Pairs::kNone) {
    const bool heads = source.pairs == Pairs::kHeads;
    if (source.half % source.tile_columns == 0 && (!heads || source.half == source.tile_columns)) {
      half_step = source.half;
      abreast_log2 = heads ? 1 : 0;
      across /= 2;
    }
  }
  const std::uint32_t highest = row == nullptr ? 3 : u32(std::int64_t{2} * abreast_log2);
  std::uint32_t band_log2 = 0;
  while (band_log2 < highest && down % (2 << band_log2) == 0) ++band_log2;
  const Operand& any = column == nullptr ? *row : *column;
  const std::int64_t count = down * across;
  const std::int64_t width = across << band_log2;
  const std::int64_t blocks = tile_blocks(source.async, any, half_step != 0, count, filling);
  int passes = source.passes * (column != nullptr && row != nullptr ? 2 : 1) << abreast_log2;
  std::int64_t shares = 1;
  while (source.async && passes > 1 && 2 * shares * count <= filling) passes /= 2, shares *= 2;
  return {u32(count),          u32(blocks),    u32(width),   band_log2, u32(blocks / width),
          u32(blocks % width), u32(half_step), abreast_log2, passes,    u32(shares)};
}

SegmentOutputs segment_outputs_of(const Operand& column, const Operand& row) {
  const bool bytes = row.output == Output::kInt8;
  if (bytes && (column.output == Output::kInt8 || column.output == Output::kPacked)) return {column.output, row.output};
  return {Output::kAny, Output::kAny};
}

bool fits_segments(DType dtype, const Operand& p) {
  const std::int64_t length = std::int64_t{1} << p.outer_column_shift;
  const std::int64_t longest = p.of_columns ? kLargestCluster * kSegmentRows : kSegmentColumns;
  return p.policy == Policy::kInteger && p.span == Span::kOneRun && dtype != DType::kF32 && length <= longest &&
         length >= kSegmentRows;
}

SegmentGrid segment_grid(std::int64_t rows, std::int64_t columns, const Operand* column, std::int64_t resident) {
  int cluster_log2 = 0;
  while (column != nullptr && kSegmentRows << cluster_log2 < 1 << column->outer_column_shift) ++cluster_log2;
  const std::int64_t region_rows = std::int64_t{kSegmentRows} << cluster_log2;
  const std::int64_t down = (rows + region_rows - 1) / region_rows;
  const std::int64_t count = down * ((columns + kSegmentColumns - 1) / kSegmentColumns);
  return {u32(count), u32(down), u32(std::min(count, resident)), cluster_log2};
}

}  // namespace ufp4::cuda
