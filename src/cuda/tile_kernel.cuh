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

inline constexpr int kTileStages = 2;
inline constexpr int kTileResident = 4;  // blocks on a multiprocessor

// The tiles of a matrix and their order: down a band of a few, then along the rows, then band after band. The tiles
// under way together read long pieces of the rows and write whole lines of a column operand. A row operand has but half
// a sector of scales in a tile: with one, bands are a tile high, so that neighbours along the rows come one after the
// other.
struct TileGrid {
  std::uint32_t count;
  std::uint32_t across;     // tiles along a row
  std::uint32_t down;       // tiles along a column
  std::uint32_t band;       // tiles down a band
  std::uint32_t half_step;  // columns between the halves of a source that has two, if tiles alternate between them
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

template <typename Source>
__device__ inline TilePlace place_tile(std::uint32_t tile, const TileGrid& g) {
  constexpr std::uint32_t kColumns = kTileColumns<Source::kType>;
  const std::uint32_t band = tile / (g.band * g.across);
  const std::uint32_t within = tile - band * g.band * g.across;
  std::uint32_t down = 0;
  std::uint32_t across = within;
  if (g.band > 1) {
    const std::uint32_t height = min(g.band, g.down - band * g.band);
    down = within % height;
    across = within / height;
  }
  std::uint32_t column0 = across * kColumns;
  if constexpr (Source::kHalves == 2) {
    if (g.half_step != 0) column0 = across / 2 * kColumns + across % 2 * g.half_step;
  }
  return {(band * g.band + down) * kTileRows, column0};
}

// A run of 16 words along the columns of the tile gives one or two columns' runs.
template <DType kType, Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline void quantize_tile_columns(const std::uint32_t* tile, const Operand& p, TilePlace place,
                                             Running& running) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  constexpr int kRuns = kTileRows / kRun;
  const int run = static_cast<int>(threadIdx.x) % kRuns;
  const int word = static_cast<int>(threadIdx.x) / kRuns;
  const std::uint32_t* words = tile + run * tile_word(kRun, 0) + word;
  const std::uint32_t first_row = place.row0 + static_cast<std::uint32_t>(run * kRun);
#pragma unroll 1  // both columns at once need more registers than there are
  for (int part = 0; part < kPerWord; ++part) {
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = Values<kType>::select(words[i * kTileWords], part);
    const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(word * kPerWord + part);
    const bool valid = column < p.rows && first_row < p.columns;
    const RunIndices indices = quantize_run<kGrid, kStochastic, kSpan>(v, p, running.window, column, first_row, valid);
    store_run<kGrid, kStochastic, kSpan>(p, column, first_row / kRun, indices, running, valid);
  }
}

template <DType kType, Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline void quantize_tile_rows(const std::uint32_t* tile, const Operand& p, TilePlace place,
                                          Running& running) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  constexpr int kRunWords = kRun / kPerWord;
  constexpr int kRuns = kTileWords / kRunWords;  // in a row of the tile
#pragma unroll 1
  for (int step = 0; step < kTileRows * kRuns / kTileThreads; ++step) {
    const int index = step * kTileThreads + static_cast<int>(threadIdx.x);
    const int run = index % kRuns;
    const int tile_row = index / kRuns;
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
    const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(run * kRun);
    const bool valid = row < p.rows && column < p.columns;
    const RunIndices indices = quantize_run<kGrid, kStochastic, kSpan>(v, p, running.window, row, column, valid);
    store_run<kGrid, kStochastic, kSpan>(p, row, column / kRun, indices, running, valid);
  }
}

template <typename Source, Grid kGrid, bool kStochastic, Span kSpan>
__global__ void __launch_bounds__(kTileThreads, kTileResident)
    quantize_tiles(const __grid_constant__ TileJob<Source> job) {
  __shared__ __align__(16) std::uint32_t stages[kTileStages][kTileSize];
  Running column_running = begin<kGrid>(job.column);
  Running row_running = begin<kGrid>(job.row);
  std::uint32_t tile = blockIdx.x;
  TilePlace place = place_tile<Source>(tile, job.grid);
  job.source.load(stages[0], place.row0, place.column0);
  __pipeline_commit();
  for (int stage = 0; tile < job.grid.count; stage ^= 1) {
    tile += gridDim.x;
    TilePlace next{};
    if (tile < job.grid.count) {
      next = place_tile<Source>(tile, job.grid);
      job.source.load(stages[stage ^ 1], next.row0, next.column0);
    }
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    if (job.with_column) {
      quantize_tile_columns<Source::kType, kGrid, kStochastic, kSpan>(stages[stage], job.column, place, column_running);
    }
    if (job.with_row) {
      quantize_tile_rows<Source::kType, kGrid, kStochastic, kSpan>(stages[stage], job.row, place, row_running);
    }
    __syncthreads();  // before this stage is overwritten
    place = next;
  }
  if (job.with_column) end<kGrid>(job.column, column_running);
  if (job.with_row) end<kGrid>(job.row, row_running);
}

// One of `column` and `row` may be null.
template <typename Source>
void start_tiles(const Source& source, const Operand* column, const Operand* row, Stream stream) {
  constexpr std::int64_t kColumns = kTileColumns<Source::kType>;
  const std::int64_t down = (source.rows() + kTileRows - 1) / kTileRows;
  const std::int64_t across = (source.columns() + kColumns - 1) / kColumns;
  const std::int64_t half = source.columns() / Source::kHalves;
  const bool alternate = Source::kHalves == 2 && half % kColumns == 0;
  const auto u32 = [](std::int64_t x) { return static_cast<std::uint32_t>(x); };
  const TileGrid grid{u32(down * across), u32(across), u32(down), row == nullptr ? 8u : 1u, alternate ? u32(half) : 0u};
  const Operand& any = column == nullptr ? *row : *column;
  const TileJob<Source> job{source, any, row == nullptr ? any : *row, column != nullptr, row != nullptr, grid};
  const auto blocks = static_cast<unsigned>(std::min(down * across, resident_blocks(kTileResident)));
  const Span span = job.column.span == job.row.span ? any.span : Span::kLanes;
  with_policy(any, span, [&]<Grid kGrid, bool kStochastic, Span kSpan>() {
    quantize_tiles<Source, kGrid, kStochastic, kSpan><<<blocks, kTileThreads, 0, stream>>>(job);
  });
  check_launch("quantize_tiles", source.rows(), source.columns());
}

}  // namespace ufp4::cuda
