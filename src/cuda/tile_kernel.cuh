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
// other. A block takes every gridDim.x-th tile; no division is needed to find the next.
struct TileGrid {
  std::uint32_t count;
  std::uint32_t width;       // tiles in a band
  std::uint32_t band_log2;   // of its height in tiles, which divides the matrix
  std::uint32_t step_bands;  // gridDim.x / width
  std::uint32_t step_tiles;  // gridDim.x % width
  std::uint32_t half_step;   // columns between the tiles of a pair, of a source with two halves; 0: tiles go alone
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
      : grid(g), tile(blockIdx.x), band(blockIdx.x / g.width), within(blockIdx.x - band * g.width) {}

  __device__ bool valid() const { return tile < grid.count; }
  __device__ TilePlace place() const {
    const std::uint32_t down = (band << grid.band_log2) + (within & ((1u << grid.band_log2) - 1));
    return {down * kTileRows, (within >> grid.band_log2) * kTileColumns<kType>};
  }
  __device__ void advance() {
    tile += gridDim.x;
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
template <DType kType, Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline void quantize_tile_columns(const std::uint32_t* tile, const Operand& p, TilePlace place,
                                             Running& running, const GroupStarts<kColumnRuns>& starts) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  const int run = static_cast<int>(threadIdx.x) % kColumnRuns;
  const int word = static_cast<int>(threadIdx.x) / kColumnRuns;
  const std::uint32_t* words = tile + run * tile_word(kRun, 0) + word;
  const std::uint32_t first_row = place.row0 + static_cast<std::uint32_t>(run * kRun);
  const RunGroups groups{&starts.starts[0][run], &starts.starts[1][run]};
#pragma unroll 1  // both columns at once need more registers than there are
  for (int part = 0; part < kPerWord; ++part) {
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = Values<kType>::select(words[i * kTileWords], part);
    const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(word * kPerWord + part);
    const bool valid = column < p.rows && first_row < p.columns;
    const RunIndices indices = quantize_run<kGrid, kStochastic, kSpan>(v, p, running, groups, column, first_row, valid);
    store_run<kGrid, kStochastic, kSpan>(p, column, first_row / kRun, indices, running, valid);
  }
}

template <DType kType, Grid kGrid, bool kStochastic, Span kSpan>
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
    const RunIndices indices = quantize_run<kGrid, kStochastic, kSpan>(v, p, running, groups, row, column, valid);
    store_run<kGrid, kStochastic, kSpan>(p, row, column / kRun, indices, running, valid);
  }
}

// The work of a thread block on its tiles, with what it keeps from one to the next.
template <typename Source, Grid kGrid, bool kStochastic, Span kSpan>
struct TileWork {
  static constexpr DType kType = Source::kType;
  struct Shared {
    alignas(16) std::uint32_t stages[2][kTileSize];
    GroupStarts<kColumnRuns> column_groups;
    GroupStarts<kRowRuns<kType>> row_groups[2];  // a stage each
  };
  const TileJob<Source>& job;
  Shared& shared;
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
    if (job.with_column) {
      quantize_tile_columns<kType, kGrid, kStochastic, kSpan>(tile, job.column, place, column, shared.column_groups);
    }
    if (job.with_row) {
      quantize_tile_rows<kType, kGrid, kStochastic, kSpan>(tile, job.row, place, row, shared.row_groups[stage]);
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

template <typename Source, Grid kGrid, bool kStochastic, Span kSpan>
__global__ void __launch_bounds__(kTileThreads, kTileResident<Source>)
    quantize_tiles(const __grid_constant__ TileJob<Source> job) {
  using Work = TileWork<Source, kGrid, kStochastic, kSpan>;
  if (!(job.with_column && wanted<kGrid>(job.column)) && !(job.with_row && wanted<kGrid>(job.row))) return;
  __shared__ typename Work::Shared shared;
  Work work{job, shared, begin<kGrid, kStochastic>(job.column), begin<kGrid, kStochastic>(job.row)};
  if constexpr (Source::kAsync) {
    work.run_async();
  } else {
    work.run_made();
  }
  if (job.with_column) end<kGrid>(job.column, work.column);
  if (job.with_row) end<kGrid>(job.row, work.row);
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
  const std::int64_t count = down * across;
  const std::int64_t width = across << band_log2;
  const std::int64_t blocks = std::min(count, resident_blocks(kTileResident<Source>));
  const TileGrid grid{u32(count), u32(width), band_log2, u32(blocks / width), u32(blocks % width), u32(half_step)};
  const Operand& any = column == nullptr ? *row : *column;
  const TileJob<Source> job{source, any, row == nullptr ? any : *row, column != nullptr, row != nullptr, grid};
  const Span span = job.column.span == job.row.span ? any.span : Span::kLanes;
  with_policy(any, span, [&]<Grid kGrid, bool kStochastic, Span kSpan>() {
    quantize_tiles<Source, kGrid, kStochastic, kSpan><<<u32(blocks), kTileThreads, 0, stream>>>(job);
  });
  check_launch("quantize_tiles", source.rows(), source.columns());
}

}  // namespace ufp4::cuda
