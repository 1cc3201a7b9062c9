// Blocks along the stored columns, along the rows, or both from one read. A thread block works on tiles of its source;
// while it works on one, the next comes to shared memory.
#pragma once

#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/policy.h"
#include "cuda/run.cuh"
#include "cuda/source.cuh"
#include "cuda/store.cuh"

namespace ufp4::cuda {

// Blocks on a multiprocessor: the registers of a layer's arithmetic are worth more than a fourth.
template <typename Source>
inline constexpr int kTileResident = Source::kAsync ? 4 : 3;

// The tiles of a matrix and their order: down a band of a few, then along the rows, then band after band. The tiles
// under way together read long pieces of the rows and write whole lines of a column operand. A row operand has but half
// a sector of scales in a tile: with one, bands are a tile high, so that neighbours along the rows come one after the
// other. Of n blocks each takes every n-th tile; no division is needed to find the next.
struct TileGrid {
  std::uint32_t count;
  std::uint32_t blocks;
  std::uint32_t width;       // tiles in a band
  std::uint32_t band_log2;   // of its height in tiles, which divides the matrix
  std::uint32_t step_bands;  // blocks / width
  std::uint32_t step_tiles;  // blocks % width
  std::uint32_t half_step;   // columns between the tiles of a pair, of a source with two halves; 0: tiles go alone
  bool split;                // as many blocks again: the first do the columns, the others the rows
};

template <typename Source>
struct TileJob {
  Source source;
  Operand column, row;
  bool with_column, with_row;
  TileGrid grid;
};

struct TilePlace {
  std::uint32_t row0, column0;
};

// A block's way through the tiles.
template <DType kType>
struct TileWalk {
  const TileGrid& grid;
  std::uint32_t tile, band, within;

  __device__ explicit TileWalk(const TileGrid& g)
      : grid(g),
        tile(blockIdx.x < g.blocks ? blockIdx.x : blockIdx.x - g.blocks),
        band(tile / g.width),
        within(tile - band * g.width) {}

  __device__ bool valid() const { return tile < grid.count; }
  __device__ TilePlace place() const {
    const std::uint32_t down = (band << grid.band_log2) + (within & ((1u << grid.band_log2) - 1));
    return {down * kTileRows, (within >> grid.band_log2) * kTileColumns<kType>};
  }
  __device__ void advance() {
    tile += grid.blocks;
    band += grid.step_bands;
    within += grid.step_tiles;
    if (within >= grid.width) {
      within -= grid.width;
      ++band;
    }
  }
};

inline constexpr int kColumnRuns = kTileRows / kRun;  // in a column of a tile
template <DType kType>
inline constexpr int kRowRuns = kTileColumns<kType> / kRun;  // in a row of a tile

// A run of 16 words along the columns of the tile gives one or two columns' runs.
template <DType kType, Grid kGrid, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline void quantize_tile_columns(const std::uint32_t* tile, const Operand& p, TilePlace place,
                                             Running& running, const GroupStarts<kColumnRuns>& starts) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  const int run = static_cast<int>(threadIdx.x) % kColumnRuns;
  const int word = static_cast<int>(threadIdx.x) / kColumnRuns;
  const std::uint32_t* words = tile + run * tile_word(kRun, 0) + word;
  const std::uint32_t first_row = place.row0 + static_cast<std::uint32_t>(run * kRun);
  const RunGroups groups{&starts.starts[0][run], &starts.starts[1][run]};
#pragma unroll 1  // both columns at once need more registers than they save instructions
  for (int part = 0; part < kPerWord; ++part) {
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = Values<kType>::select(words[i * kTileWords], part);
    const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(word * kPerWord + part);
    const bool valid = column < p.rows && first_row < p.columns;
    const RunIndices indices =
        quantize_run<kGrid, kStochastic, kSpan, kOutput>(v, p, running, groups, column, first_row, valid);
    store_run<kGrid, kStochastic, kSpan, kOutput>(p, column, first_row / kRun, indices, running, valid);
  }
}

template <DType kType, Grid kGrid, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline void quantize_tile_rows(const std::uint32_t* tile, const Operand& p, TilePlace place,
                                          Running& running, const GroupStarts<kRowRuns<kType>>& starts) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  constexpr int kRunWords = kRun / kPerWord;
  constexpr int kRuns = kRowRuns<kType>;
  constexpr int kStepRows = kTileThreads / kRuns;
  const int run = static_cast<int>(threadIdx.x) % kRuns;
  const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(run * kRun);
  const RunGroups groups{&starts.starts[0][run], &starts.starts[1][run]};
#pragma unroll 1
  for (int tile_row = static_cast<int>(threadIdx.x) / kRuns; tile_row < kTileRows; tile_row += kStepRows) {
    const auto* from = reinterpret_cast<const uint4*>(tile + tile_word(tile_row, run * kRunWords));
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRunWords; i += 4) {
      const uint4 x = from[i / 4];
      const std::uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        for (int part = 0; part < kPerWord; ++part) v[(i + k) * kPerWord + part] = Values<kType>::get(words[k], part);
      }
    }
    const std::uint32_t row = place.row0 + static_cast<std::uint32_t>(tile_row);
    const bool valid = row < p.rows && column < p.columns;
    const RunIndices indices =
        quantize_run<kGrid, kStochastic, kSpan, kOutput>(v, p, running, groups, row, column, valid);
    store_run<kGrid, kStochastic, kSpan, kOutput>(p, row, column / kRun, indices, running, valid);
  }
}

// The work of a thread block on its tiles, with what it keeps from one to the next.
template <typename Source, Grid kGrid, bool kStochastic, Span kSpan, Output kColumnOutput, Output kRowOutput>
struct TileWork {
  static constexpr DType kType = Source::kType;
  struct Shared {
    alignas(16) std::uint32_t stages[2][kTileSize];
    GroupStarts<kColumnRuns> column_groups;
    GroupStarts<kRowRuns<kType>> row_groups[2];  // a stage each
  };
  const TileJob<Source>& job;
  Shared& shared;
  bool with_column, with_row;
  Running column, row;

  // What the random bits of a tile have in common, before the barrier that precedes `quantize`.
  __device__ void prepare(int stage, TilePlace place) {
    if constexpr (kStochastic) {
      constexpr unsigned kColumnThreads = 2 * kColumnRuns;
      constexpr unsigned kThreads = kColumnThreads + 2 * kRowRuns<kType>;
      const unsigned i = threadIdx.x;
      if (i < kColumnThreads) {
        shared.column_groups.fill(job.column, column.step, place.row0, i);
      } else if (i < kThreads) {
        shared.row_groups[stage].fill(job.row, row.step, place.column0, i - kColumnThreads);
      }
    }
  }

  __device__ void quantize(int stage, TilePlace place) {
    const std::uint32_t* tile = shared.stages[stage];
    if (with_column) {
      quantize_tile_columns<kType, kGrid, kStochastic, kSpan, kColumnOutput>(tile, job.column, place, column,
                                                                             shared.column_groups);
    }
    if (with_row) {
      quantize_tile_rows<kType, kGrid, kStochastic, kSpan, kRowOutput>(tile, job.row, place, row,
                                                                       shared.row_groups[stage]);
    }
  }

  // Tiles come to one stage while the other is worked on.
  __device__ void run_async() {
    TileWalk<kType> walk(job.grid);
    TilePlace place = walk.place();
    job.source.load(shared.stages[0], place.row0, place.column0);
    __pipeline_commit();
    for (int stage = 0; walk.valid(); stage ^= 1) {
      walk.advance();
      const TilePlace next = walk.place();
      if (walk.valid()) job.source.load(shared.stages[stage ^ 1], next.row0, next.column0);
      prepare(stage, place);
      __pipeline_commit();
      __pipeline_wait_prior(1);
      __syncthreads();
      quantize(stage, place);
      __syncthreads();  // before this stage is overwritten
      place = next;
    }
  }

  // Tiles are made where they are worked on, a pair at a time where there are halves; their inputs come to the cache
  // before.
  __device__ void run_made() {
    const bool pair = Source::kHalves == 2 && job.grid.half_step != 0;
    TileWalk<kType> walk(job.grid);
    TilePlace next = walk.place();
    while (walk.valid()) {
      TilePlace place = next;
      if constexpr (Source::kHalves == 2) {
        if (pair) {
          job.source.template load<true>(shared.stages, place.row0, place.column0);
          prepare(1, {place.row0, place.column0 + job.grid.half_step});
        }
      }
      if (!pair) job.source.template load<false>(shared.stages, place.row0, place.column0);
      prepare(0, place);
      __syncthreads();
      walk.advance();
      next = walk.place();
      if (walk.valid()) job.source.prefetch(next.row0, next.column0);
#pragma unroll 1
      for (int stage = 0; stage < (pair ? 2 : 1); ++stage) {
        quantize(stage, place);
        place.column0 += job.grid.half_step;
      }
      __syncthreads();  // before the stages are overwritten
    }
  }
};

template <typename Source, Grid kGrid, bool kStochastic, Span kSpan, Output kColumnOutput, Output kRowOutput>
__global__ void __launch_bounds__(kTileThreads, kTileResident<Source>)
    quantize_tiles(const __grid_constant__ TileJob<Source> job) {
  using Work = TileWork<Source, kGrid, kStochastic, kSpan, kColumnOutput, kRowOutput>;
  if (!(job.with_column && wanted<kGrid>(job.column)) && !(job.with_row && wanted<kGrid>(job.row))) return;
  __shared__ typename Work::Shared shared;
  const bool first = blockIdx.x < job.grid.blocks;
  Work work{job,
            shared,
            job.with_column && (!job.grid.split || first),
            job.with_row && (!job.grid.split || !first),
            begin<kGrid, kStochastic, kSpan>(job.column),
            begin<kGrid, kStochastic, kSpan>(job.row)};
  if constexpr (Source::kAsync) {
    work.run_async();
  } else {
    work.run_made();
  }
  if (work.with_column) end<kGrid, kSpan>(job.column, work.column);
  if (work.with_row) end<kGrid, kSpan>(job.row, work.row);
}

// How many blocks take the tiles, in whole fillings of the multiprocessors. If a block has one tile, nothing is loaded
// while it works; if it has many, blocks that do not progress evenly drift apart, and neither lines of memory that
// several of them write nor the end of the matrix are complete at one time. A block of kWindow has more to do before
// its first tile, and one of a layer has no tile on its way then. What is measured: docs/performance.md.
template <typename Source>
std::int64_t tile_blocks(const Operand& any, bool pairs, std::int64_t count, std::int64_t filling) {
  const int tiles = !Source::kAsync ? (pairs ? 1 : 4) : any.grid == Grid::kWindow ? 5 : 2;
  const bool seldom = any.only_if != nullptr;  // seldom anything to do
  const std::int64_t fillings =
      seldom ? 1 : std::max<std::int64_t>(1, (count + tiles * filling / 2) / (tiles * filling));
  return std::min(count, fillings * filling);
}

// One of `column` and `row` may be null.
template <typename Source>
void start_tiles(const Source& source, const Operand* column, const Operand* row, Stream stream) {
  constexpr std::int64_t kColumns = kTileColumns<Source::kType>;
  const std::int64_t down = (source.rows() + kTileRows - 1) / kTileRows;
  std::int64_t across = (source.columns() + kColumns - 1) / kColumns;
  std::int64_t half_step = 0;
  if constexpr (!Source::kAsync) {
    if (Source::kHalves == 2 && source.columns() % (2 * kColumns) == 0) {
      half_step = source.columns() / 2;
      across /= 2;
    }
  }
  const auto u32 = [](std::int64_t x) { return static_cast<std::uint32_t>(x); };
  std::uint32_t band_log2 = 0;
  while (row == nullptr && band_log2 < 3 && down % (2 << band_log2) == 0) ++band_log2;
  const Operand& any = column == nullptr ? *row : *column;
  const std::int64_t count = down * across;
  const std::int64_t width = across << band_log2;
  const std::int64_t filling = resident_blocks(kTileResident<Source>);
  const std::int64_t blocks = tile_blocks<Source>(any, half_step != 0, count, filling);
  const bool split = Source::kAsync && column != nullptr && row != nullptr && 2 * count <= filling;
  const TileGrid grid{u32(count),          u32(blocks),         u32(width),     band_log2,
                      u32(blocks / width), u32(blocks % width), u32(half_step), split};
  const TileJob<Source> job{source, any, row == nullptr ? any : *row, column != nullptr, row != nullptr, grid};
  with_rounding(any, [&]<Grid kGrid, bool kStochastic>() {
    with_outputs<kGrid>(job.column, job.row, [&]<Span kSpan, Output kColumnOutput, Output kRowOutput>() {
      quantize_tiles<Source, kGrid, kStochastic, kSpan, kColumnOutput, kRowOutput>
          <<<u32(split ? 2 * blocks : blocks), kTileThreads, 0, stream>>>(job);
    });
  });
  check_launch("quantize_tiles", source.rows(), source.columns());
}

}  // namespace ufp4::cuda
