// Blocks along the stored columns, along the rows, or both from one read. A thread block works on tiles of its source;
// while it works on one, the next comes to shared memory.
#pragma once

#include "cuda/kernels.h"
#include "cuda/policy.h"
#include "cuda/quantize_run.cuh"
#include "cuda/source.cuh"
#include "cuda/store.cuh"

namespace ufp4::cuda {

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
      : grid(g), tile(blockIdx.x % g.blocks), band(tile / g.width), within(tile - band * g.width) {}

  __device__ bool valid() const { return tile < grid.count; }
  __device__ TilePlace place() const {
    const std::uint32_t down = (band << grid.band_log2) + (within & ((1u << grid.band_log2) - 1));
    return {down * kTileRows, ((within >> grid.band_log2) << grid.abreast_log2) * kTileColumns<kType>};
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

// The threads of a block make the runs of a tile's columns in as many passes as a word has values, and those of its
// rows in as many again.
template <DType kType>
inline constexpr int kTilePasses = Values<kType>::kPerWord;

// A range of passes.
struct Passes {
  int first, end;

  __device__ bool any() const { return first < end; }
  // Those of the `count` from `from` on that are within, counted from there.
  __device__ Passes part(int from, int count) const { return {max(first - from, 0), min(end - from, count)}; }
};

// A run of 16 words along the columns of the tile gives one or two columns' runs, a pass each.
template <DType kType, Policy kPolicy, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline void quantize_tile_columns(const std::uint32_t* tile, const Operand& p, TilePlace place,
                                             Running& running, const GroupStarts<kColumnRuns>& starts, Passes passes) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  static_assert(kColumnRuns * kTileWords == kTileThreads);
  const int run = static_cast<int>(threadIdx.x) % kColumnRuns;
  const int word = static_cast<int>(threadIdx.x) / kColumnRuns;
  const std::uint32_t* words = tile + run * tile_word(kRun, 0) + word;
  const std::uint32_t first_row = place.row0 + static_cast<std::uint32_t>(run * kRun);
  const RunGroups groups{&starts.starts[0][run], &starts.starts[1][run]};
#pragma unroll 1  // both columns at once need more registers than they save instructions
  for (int part = passes.first; part < passes.end; ++part) {
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = Values<kType>::select(words[i * kTileWords], part);
    const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(word * kPerWord + part);
    const bool valid = column < p.rows && first_row < p.columns;
    const RunIndices indices =
        quantize_run<kPolicy, kStochastic, kSpan, kOutput>(v, p, running, groups, column, first_row, valid);
    store_run<kPolicy, kStochastic, kSpan, kOutput>(p, column, first_row / kRun, indices, running, valid);
  }
}

// Of 2^abreast_log2 tiles side by side, whose rows the threads take in as many times the passes of one.
template <DType kType, Policy kPolicy, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline void quantize_tile_rows(const std::uint32_t (*tiles)[kTileSize], int abreast_log2, const Operand& p,
                                          TilePlace place, Running& running, const GroupStarts<kRowRuns<kType>>* starts,
                                          Passes passes) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  constexpr int kRunWords = kRun / kPerWord;
  constexpr int kRuns = kRowRuns<kType>;
  static_assert(kTileRows * kRuns == kTileThreads * kTilePasses<kType>);
  const int run = static_cast<int>(threadIdx.x) % (kRuns << abreast_log2);
  const int tile = run / kRuns;
  const int within = run % kRuns;
  const int first_row = static_cast<int>(threadIdx.x) / kRuns >> abreast_log2;
  const int pass_rows = kTileThreads / kRuns >> abreast_log2;
  const std::uint32_t column = place.column0 + static_cast<std::uint32_t>(run * kRun);
  const RunGroups groups{&starts[tile].starts[0][within], &starts[tile].starts[1][within]};
#pragma unroll 1
  for (int pass = passes.first; pass < passes.end; ++pass) {
    const int tile_row = first_row + pass * pass_rows;
    const auto* from = reinterpret_cast<const uint4*>(tiles[tile] + tile_word(tile_row, within * kRunWords));
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
        quantize_run<kPolicy, kStochastic, kSpan, kOutput>(v, p, running, groups, row, column, valid);
    store_run<kPolicy, kStochastic, kSpan, kOutput>(p, row, column / kRun, indices, running, valid);
  }
}

// What the threads of a block share.
template <DType kType>
struct TileShared {
  alignas(16) std::uint32_t stages[2][kTileSize];
  GroupStarts<kColumnRuns> column_groups;
  GroupStarts<kRowRuns<kType>> row_groups[2];  // a stage each
};

// The work of a thread block on its tiles, with what it keeps from one to the next.
template <typename Source, Policy kPolicy, bool kStochastic, Span kSpan, Output kColumnOutput, Output kRowOutput>
struct TileWork {
  static constexpr DType kType = Source::kType;
  const TileJob<Source>& job;
  TileShared<kType>& shared;
  Passes passes;  // those for columns come first
  Running column, row;

  // What the random bits of a tile have in common, before the barrier that precedes its work.
  __device__ void prepare(int stage, TilePlace place) {
    if constexpr (kStochastic) {
      constexpr unsigned kColumnThreads = 2 * kColumnRuns;
      constexpr unsigned kThreads = kColumnThreads + 2 * kRowRuns<kType>;
      const unsigned i = threadIdx.x;
      if (i < kColumnThreads) {
        shared.column_groups.fill(job.column, column.start, place.row0, i);
      } else if (i < kThreads) {
        shared.row_groups[stage].fill(job.row, row.start, place.column0, i - kColumnThreads);
      }
    }
  }

  // The passes over a tile, or all that go together, in one orientation.
  __device__ int passes_of(bool wanted) const { return wanted ? kTilePasses<kType> << job.grid.abreast_log2 : 0; }

  // Of the n-th tile of those that go together.
  __device__ void quantize_columns(int stage, TilePlace place, int n) {
    const int before = n * kTilePasses<kType>;
    const Passes of = passes.part(before, min(passes_of(job.with_column) - before, kTilePasses<kType>));
    if (!of.any()) return;
    quantize_tile_columns<kType, kPolicy, kStochastic, kSpan, kColumnOutput>(shared.stages[stage], job.column, place,
                                                                             column, shared.column_groups, of);
  }

  // Of all, from `stage` on.
  __device__ void quantize_rows(int stage, TilePlace place) {
    const Passes of = passes.part(passes_of(job.with_column), passes_of(job.with_row));
    if (!of.any()) return;
    quantize_tile_rows<kType, kPolicy, kStochastic, kSpan, kRowOutput>(
        shared.stages + stage, job.grid.abreast_log2, job.row, place, row, shared.row_groups + stage, of);
  }

  // A stage for each tile of a pair: as soon as one is done with, that of the next pair comes to it.
  __device__ void run_async() {
    const auto tile_of = [](TilePlace pair, int stage) {
      return TilePlace{pair.row0, pair.column0 + static_cast<std::uint32_t>(stage) * kTileColumns<kType>};
    };
    TileWalk<kType> walk(job.grid);
    TilePlace next = walk.place();
    const auto load = [&](int stage) {
      const TilePlace tile = tile_of(next, stage);
      if (walk.valid() && stage >> job.grid.abreast_log2 == 0) {
        job.source.load(shared.stages[stage], tile.row0, tile.column0);
      }
      __pipeline_commit();
    };
    load(0);
    load(1);
    while (walk.valid()) {
      const TilePlace pair = next;
      walk.advance();
      next = walk.place();
      prepare(0, pair);
      prepare(1, tile_of(pair, 1));
      __pipeline_wait_prior(1);
      __syncthreads();
#pragma unroll 1
      for (int stage = 0; stage < 2; ++stage) {
        quantize_columns(stage, tile_of(pair, stage), stage);
        if (stage == 0) {
          __pipeline_wait_prior(0);
          __syncthreads();
          quantize_rows(0, pair);
        }
        __syncthreads();  // before the stage is overwritten
        load(stage);
      }
    }
  }

  // Tiles are made where they are worked on, two at a time where the source is paired; their inputs come to the cache
  // before.
  __device__ void run_made() {
    constexpr bool kPaired = Source::kPairs != Pairs::kNone;
    const bool pair = kPaired && job.grid.half_step != 0;
    const bool abreast = Source::kPairs == Pairs::kHeads && pair;  // a head's halves lie side by side
    TileWalk<kType> walk(job.grid);
    TilePlace next = walk.place();
    while (walk.valid()) {
      const TilePlace first = next;
      if constexpr (kPaired) {
        if (pair) {
          job.source.template load<true>(shared.stages, first.row0, first.column0);
          prepare(1, {first.row0, first.column0 + job.grid.half_step});
        }
      }
      if (!pair) job.source.template load<false>(shared.stages, first.row0, first.column0);
      prepare(0, first);
      __syncthreads();
      walk.advance();
      next = walk.place();
      if (walk.valid()) job.source.prefetch(next.row0, next.column0);
      TilePlace place = first;
#pragma unroll 1
      for (int stage = 0; stage < (pair ? 2 : 1); ++stage) {
        quantize_columns(stage, place, abreast ? stage : 0);
        if (!abreast || stage == 1) quantize_rows(abreast ? 0 : stage, abreast ? first : place);
        place.column0 += job.grid.half_step;
      }
      __syncthreads();  // before the stages are overwritten
    }
  }
};

template <typename Source, Policy kPolicy, bool kStochastic, Span kSpan, Output kColumnOutput, Output kRowOutput>
__device__ inline void work_on_tiles(const TileJob<Source>& job, TileShared<Source::kType>& shared) {
  const int first_pass = static_cast<int>(blockIdx.x / job.grid.blocks) * job.grid.passes;
  TileWork<Source, kPolicy, kStochastic, kSpan, kColumnOutput, kRowOutput> work{
      job,
      shared,
      {first_pass, first_pass + job.grid.passes},
      begin<kPolicy, kStochastic, kSpan>(job.column),
      begin<kPolicy, kStochastic, kSpan>(job.row)};
  if constexpr (Source::kAsync) {
    work.run_async();
  } else {
    work.run_made();
  }
  if (job.with_column) end<kPolicy, kSpan>(job.column, work.column);
  if (job.with_row) end<kPolicy, kSpan>(job.row, work.row);
}

// Not inlined: it is rare, and what it takes is not to be reserved for the others.
template <typename Source, Policy kPolicy>
static __device__ __noinline__ void work_within_groups(const TileJob<Source>& job, TileShared<Source::kType>& shared) {
  work_on_tiles<Source, kPolicy, true, Span::kLanes, Output::kAny, Output::kAny>(job, shared);
}

template <typename Source, Policy kPolicy, bool kStochastic, Span kSpan, Output kColumnOutput, Output kRowOutput>
__global__ void __launch_bounds__(kTileThreads, tile_resident(Source::kAsync))
    quantize_tiles(const __grid_constant__ TileJob<Source> job) {
  if (!(job.with_column && wanted<kPolicy>(job.column)) && !(job.with_row && wanted<kPolicy>(job.row))) return;
  __shared__ TileShared<Source::kType> shared;
  if constexpr (kStochastic && kSpan != Span::kLanes) {
    if (job.with_column && begins_within_group(job.column)) return work_within_groups<Source, kPolicy>(job, shared);
  }
  work_on_tiles<Source, kPolicy, kStochastic, kSpan, kColumnOutput, kRowOutput>(job, shared);
}

// One of `column` and `row` may be null.
template <typename Source>
void start_tiles(const Source& source, const Operand* column, const Operand* row, Stream stream) {
  constexpr DType kType = Source::kType;
  std::int64_t half = 0;
  if constexpr (Source::kPairs != Pairs::kNone) half = source.layer.half();
  const TileSource from{
      source.rows(), source.columns(), kTileColumns<kType>, kTilePasses<kType>, Source::kAsync, Source::kPairs, half};
  const TileGrid grid = tile_grid(from, column, row, multiprocessors());
  const Operand& any = column == nullptr ? *row : *column;
  const TileJob<Source> job{source, any, row == nullptr ? any : *row, column != nullptr, row != nullptr, grid};
  with_rounding(any, [&]<Policy kPolicy, bool kStochastic>() {
    with_outputs<kPolicy>(outputs_of(job.column, job.row), [&]<Span kSpan, Output kColumnOutput, Output kRowOutput>() {
      quantize_tiles<Source, kPolicy, kStochastic, kSpan, kColumnOutput, kRowOutput>
          <<<grid.shares * grid.blocks, kTileThreads, 0, stream>>>(job);
    });
  });
  check_launch("quantize_tiles", source.rows(), source.columns());
}

}  // namespace ufp4::cuda
