// Formats whose second-level scales belong to segments of a row (Policy::kInteger), in one or both orientations from
// one read: the largest magnitude of a segment is known before its runs leave the registers.
//
// A region is as many stored rows as a segment of the columns has, by kSegmentColumns columns. The segments of its rows
// lie within a warp. Those of its columns are longer than the tile that fits into shared memory: a cluster of thread
// blocks takes the region, a tile of kSegmentRows rows each. A thread makes its runs of the tile's columns, keeps them
// in registers, and tells all blocks of the cluster the largest magnitude that its part of each column has. While these
// arrive, the rows are quantized. Then every block knows the scales of the columns and finishes what it kept.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/policy.h"
#include "cuda/quantize_run.cuh"
#include "cuda/segment_source.cuh"
#include "cuda/store.cuh"

namespace ufp4::cuda {

template <typename Source>
struct SegmentJob {
  Source source;
  Operand column, row;
  bool with_column, with_row;
  SegmentGrid grid;
};

inline constexpr int kSegmentRuns = kSegmentRows / kRun;                       // in a column of a tile
inline constexpr int kSegmentRowRuns = kSegmentColumns / kRun;                 // in a row
inline constexpr int kKeptWords = kSegmentWords / 8 / (kSegmentThreads / 32);  // columns of words that a thread keeps
static_assert(kSegmentRowRuns == 32 && kSegmentRuns == 4 && kSegmentColumns == kSegmentThreads);

struct SegmentShared {
  alignas(16) std::uint32_t tiles[2][kSegmentTileSize];
  std::uint32_t parts[2][kLargestCluster][kSegmentColumns];  // of the tiles in turn: from each block of the cluster
  float amax[kSegmentColumns], inverse[kSegmentColumns], scale[kSegmentColumns];  // of the segments of the columns
  GroupStarts<kSegmentRuns> column_groups[2];
  GroupStarts<kSegmentRowRuns> row_groups;
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// All threads of a cluster arrive, and wait for each other: what they wrote before is then seen by all.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// Writes to the place that `to` has in the shared memory of block `rank` of the cluster.
__device__ inline void store_to_block(std::uint32_t* to, unsigned rank, std::uint32_t x) {
  const auto own = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  std::uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(own), "r"(rank));
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(there), "r"(x) : "memory");
}

#endif

// The scale that a block's extremes ask for, without run_factor, and the sign that goes with it; NaN where a value is
// not finite.
struct Asked {
  float scale;
  __device__ bool finite() const { return !isnan(scale); }
  // The bits of the magnitude with run_factor; 0 where it is not finite.
  __device__ std::uint32_t magnitude(float size) const { return finite() ? __float_as_uint(fabsf(scale) * size) : 0u; }
};

// Transforms a run. Not only blocks of ordinary size: what the short way to divide loses in the least ones is below
// what a segment is zero for.
__device__ inline Asked ask(float (&v)[kRun], const Operand& p, std::uint32_t column) {
  const Extremes e = transform<true, Span::kOneRun>(v, p, column);
  const SignedExtreme s = signed_extreme(e, run_factor<Span::kOneRun>(p));
  const float scale = s.negative ? -s.magnitude : s.magnitude;
  return {is_finite(e) ? scale : __uint_as_float(kNanF32)};
}

// As integer_scale, of a run whose extremes have been looked at.
template <bool kStochastic>
__device__ inline Scale scale_of_asked(float (&v)[kRun], const Asked& asked, const Operand& p, const Outer& outer) {
  const float r = fabsf(asked.scale) * fabsf(outer.inverse);
  if (!ordinary_multiple(p, r)) {
    return unusual_integer_scale<Span::kOneRun, kStochastic>(v, signed_extremes(v), p, outer);
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] *= outer.inverse;
  const float m = multiple_of<kStochastic>(p, r);
  const float inverse = reciprocal(m);
  return asked.scale < 0 ? Scale{-m, -inverse} : Scale{m, inverse};
}

// kAnyPlace: also operands that begin within a group of eight.
template <bool kStochastic, bool kAnyPlace, Output kOutput>
__device__ inline void finish_run(float (&v)[kRun], const Asked& asked, const Operand& p, const Running& running,
                                  const RunGroups& groups, std::uint32_t row, std::uint32_t column, bool valid) {
  constexpr Span kSpan = kAnyPlace ? Span::kLanes : Span::kOneRun;
  const Scale s = scale_of_asked<kStochastic>(v, asked, p, running.outer);
  RunIndices result{};
  result.scale = s.scale;
  const LevelMap map = kFloatMap;  // which integers do not need
  RunWords words{};
  const std::uint32_t number = row + running.start.row_offset;
  if constexpr (kStochastic) words.first = random_words<kSpan, 0>(p, running.start, groups, number, column);
  round8<Policy::kInteger, kStochastic, kOutput, 0>(v, s.inverse, p, map, words.first, result.x);
  if constexpr (kStochastic) words.second = random_words<kSpan, 8>(p, running.start, groups, number, column);
  round8<Policy::kInteger, kStochastic, kOutput, 8>(v, s.inverse, p, map, words.second, result.x);
  store_run<Policy::kInteger, kStochastic, Span::kOneRun, kOutput>(p, row, column / kRun, result, running, valid);
}

// The work of a thread block: a tile of each region that its cluster takes.
template <typename Source, bool kStochastic, bool kAnyPlace, Output kColumnOutput, Output kRowOutput>
struct SegmentWork {
  static constexpr DType kType = Source::kType;
  const SegmentJob<Source>& job;
  SegmentShared& shared;
  Running column, row;

  struct Place {
    std::uint32_t region, region_row, row0, column0;
  };

  __device__ unsigned rank() const { return blockIdx.x & ((1u << job.grid.cluster_log2) - 1); }
  __device__ bool valid(std::uint32_t region) const { return region < job.grid.count; }
  __device__ Place place(std::uint32_t region) const {
    const std::uint32_t across = region / job.grid.down;
    const std::uint32_t down = region - across * job.grid.down;
    return {region, down, ((down << job.grid.cluster_log2) + rank()) * kSegmentRows, across * kSegmentColumns};
  }

  // What the random bits of a tile have in common.
  __device__ void prepare(const Place& at, int turn) {
    if constexpr (kStochastic) {
      constexpr unsigned kColumnThreads = 2 * kSegmentRuns;
      const unsigned i = threadIdx.x;
      if (i < kColumnThreads) {
        if (job.with_column) shared.column_groups[turn].fill(job.column, column.start, at.row0, i);
      } else if (i < kColumnThreads + 2 * kSegmentRowRuns) {
        if (job.with_row) shared.row_groups.fill(job.row, row.start, at.column0, i - kColumnThreads);
      }
    }
  }

  // A warp has eight neighbouring words of kSegmentRuns runs, so that it writes 64 bytes of each column at once.
  __device__ static int run_of_lane() { return static_cast<int>(threadIdx.x) % 32 / 8; }
  __device__ static int word_of(int i) {
    return (static_cast<int>(threadIdx.x) / 32 + i * (kSegmentThreads / 32)) * 8 + static_cast<int>(threadIdx.x) % 8;
  }

  // The runs of the columns, transformed, and what they ask for.
  struct Kept {
    float v[kKeptWords][2][kRun];
    Asked asked[kKeptWords][2];
  };

  __device__ void keep_columns(const Place& at, int turn, Kept& kept) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    const Operand& p = job.column;
    const int run = run_of_lane();
    const float size = fabsf(run_factor<Span::kOneRun>(p));
#pragma unroll
    for (int i = 0; i < kKeptWords; ++i) {
      const int word = word_of(i);
      const std::uint32_t* words = shared.tiles[turn] + segment_word(run * kRun, word);
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        const std::uint32_t both = words[k * kSegmentWords];
        kept.v[i][0][k] = Values<kType>::get(both, 0);
        kept.v[i][1][k] = Values<kType>::get(both, 1);
      }
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const Asked asked = ask(kept.v[i][part], p, at.row0 + static_cast<std::uint32_t>(run * kRun));
        kept.asked[i][part] = asked;
        std::uint32_t amax = asked.magnitude(size);
        amax = max(amax, __shfl_xor_sync(kFullWarp, amax, 8));
        amax = max(amax, __shfl_xor_sync(kFullWarp, amax, 16));
        const unsigned bad = __ballot_sync(kFullWarp, !asked.finite());
        if ((bad >> (threadIdx.x % 8) & 0x01010101u) != 0) amax |= 0x80000000u;
        std::uint32_t* to = &shared.parts[turn][rank()][2 * word + part];
        for (unsigned to_rank = static_cast<unsigned>(run); to_rank >> job.grid.cluster_log2 == 0;
             to_rank += kSegmentRuns) {
          store_to_block(to, to_rank, amax);
        }
      }
    }
#endif
  }

  // The second-level scale of a column, from all blocks of the cluster; a thread each.
  __device__ void settle_column(const Place& at, int turn) {
    const Operand& p = job.column;
    const unsigned i = threadIdx.x;
    std::uint32_t magnitude = 0;
    std::uint32_t signs = 0;
    for (unsigned from = 0; from >> job.grid.cluster_log2 == 0; ++from) {
      const std::uint32_t part = shared.parts[turn][from][i];
      magnitude = max(magnitude, part & 0x7FFFFFFFu);
      signs |= part & 0x80000000u;
    }
    const Outer outer = open_outer<Policy::kInteger, kStochastic, Span::kOneRun>(p, __uint_as_float(magnitude | signs));
    shared.amax[i] = outer.amax;
    shared.inverse[i] = outer.inverse;
    shared.scale[i] = outer.scale;
    const std::uint32_t stored_column = at.column0 + i;
    const bool mine = (i << job.grid.cluster_log2) / kSegmentColumns == rank();
    if (p.outer_scales != nullptr && mine && stored_column < p.rows) {
      p.outer_scales[std::uint64_t{stored_column} * p.outer_columns + at.region_row] = outer.scale;
    }
  }

  __device__ void finish_columns(const Place& at, int turn, Kept& kept) {
    const Operand& p = job.column;
    const int run = run_of_lane();
    const GroupStarts<kSegmentRuns>& starts = shared.column_groups[turn];
    const RunGroups groups{&starts.starts[0][run], &starts.starts[1][run]};
    const std::uint32_t first_row = at.row0 + static_cast<std::uint32_t>(run * kRun);
#pragma unroll
    for (int i = 0; i < kKeptWords; ++i) {
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const int within = 2 * word_of(i) + part;
        const std::uint32_t stored_column = at.column0 + static_cast<std::uint32_t>(within);
        const bool valid = stored_column < p.rows && first_row < p.columns;
        column.outer.amax = shared.amax[within];
        column.outer.inverse = shared.inverse[within];
        column.outer.scale = shared.scale[within];
        finish_run<kStochastic, kAnyPlace, kColumnOutput>(kept.v[i][part], kept.asked[i][part], p, column, groups,
                                                          stored_column, first_row, valid);
      }
    }
  }

  // A warp has a row at a time, and a lane a run of it.
  __device__ void quantize_rows(const Place& at, int turn) {
    const Operand& p = job.row;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const std::uint32_t from_column = at.column0 + static_cast<std::uint32_t>(lane * kRun);
    const RunGroups groups{&shared.row_groups.starts[0][lane], &shared.row_groups.starts[1][lane]};
    const float size = fabsf(run_factor<Span::kOneRun>(p));
    const int lanes = 1 << (p.outer_column_shift - 4);  // of a segment
#pragma unroll 1
    for (int tile_row = static_cast<int>(threadIdx.x) / 32; tile_row < kSegmentRows; tile_row += kSegmentThreads / 32) {
      const std::uint32_t stored_row = at.row0 + static_cast<std::uint32_t>(tile_row);
      float v[kRun];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto x =
            *reinterpret_cast<const uint4*>(shared.tiles[turn] + segment_word(tile_row, lane * 8 + half * 4));
        const std::uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          v[half * 8 + 2 * k] = Values<kType>::get(words[k], 0);
          v[half * 8 + 2 * k + 1] = Values<kType>::get(words[k], 1);
        }
      }
      const Asked asked = ask(v, p, from_column);
      std::uint32_t amax = asked.magnitude(size);
      if (lanes == 32) {
        amax = __reduce_max_sync(kFullWarp, amax);
      } else {
        for (int distance = 1; distance < lanes; distance *= 2) {
          amax = max(amax, __shfl_xor_sync(kFullWarp, amax, distance));
        }
      }
      const unsigned bad = __ballot_sync(kFullWarp, !asked.finite());
      const unsigned own = (kFullWarp >> (32 - lanes)) << (lane & ~(lanes - 1));
      if ((bad & own) != 0) amax |= 0x80000000u;
      row.outer = open_outer<Policy::kInteger, kStochastic, Span::kOneRun>(p, __uint_as_float(amax));
      const bool valid = stored_row < p.rows && from_column < p.columns;
      if (p.outer_scales != nullptr && valid && (lane & (lanes - 1)) == 0) {
        p.outer_scales[std::uint64_t{stored_row} * p.outer_columns + (from_column >> p.outer_column_shift)] =
            row.outer.scale;
      }
      finish_run<kStochastic, kAnyPlace, kRowOutput>(v, asked, p, row, groups, stored_row, from_column, valid);
    }
  }

  __device__ void load(std::uint32_t region, int turn) const {
    if (valid(region)) {
      const Place at = place(region);
      job.source.load(shared.tiles[turn], at.row0, at.column0);
    }
    if constexpr (Source::kAsync) __pipeline_commit();
  }

  __device__ void run() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    const std::uint32_t step = job.grid.clusters;
    std::uint32_t region = blockIdx.x >> job.grid.cluster_log2;
    load(region, 0);
    if constexpr (Source::kAsync) load(region + step, 1);
    if (job.with_column) {  // no block tells another anything before that has begun
      cluster_arrive();
      cluster_wait();
    }
    for (int turn = 0; valid(region); region += step, turn ^= 1) {
      const Place at = place(region);
      prepare(at, turn);
      if constexpr (Source::kAsync) __pipeline_wait_prior(1);
      __syncthreads();
      if constexpr (!Source::kAsync) {
        const Place next = place(region + step);
        if (valid(region + step)) job.source.prefetch(next.row0, next.column0);
      }
      Kept kept;
      if (job.with_column) {
        keep_columns(at, turn, kept);
        cluster_arrive();
      }
      if (job.with_row) quantize_rows(at, turn);
      if (job.with_column) {
        cluster_wait();
        settle_column(at, turn);
      }
      __syncthreads();
      if constexpr (Source::kAsync) load(region + 2 * step, turn);  // nothing is read from the tile any more
      if (job.with_column) finish_columns(at, turn, kept);
      if constexpr (!Source::kAsync) load(region + step, turn ^ 1);
    }
#endif
  }
};

template <typename Source, bool kStochastic, bool kAnyPlace, Output kColumnOutput, Output kRowOutput>
__device__ inline void work_on_segments(const SegmentJob<Source>& job, SegmentShared& shared) {
  SegmentWork<Source, kStochastic, kAnyPlace, kColumnOutput, kRowOutput> work{
      job, shared, begin<Policy::kInteger, kStochastic, Span::kOneRun>(job.column),
      begin<Policy::kInteger, kStochastic, Span::kOneRun>(job.row)};
  work.run();
}

// Not inlined: it is rare, and what it takes is not to be reserved for the others.
template <typename Source>
static __device__ __noinline__ void segments_within_groups(const SegmentJob<Source>& job, SegmentShared& shared) {
  work_on_segments<Source, true, true, Output::kAny, Output::kAny>(job, shared);
}

template <typename Source, bool kStochastic, Output kColumnOutput, Output kRowOutput>
__global__ void __launch_bounds__(kSegmentThreads, 1)
    quantize_segments(const __grid_constant__ SegmentJob<Source> job) {
  extern __shared__ std::uint32_t segment_memory[];
  SegmentShared& shared = *reinterpret_cast<SegmentShared*>(segment_memory);
  if constexpr (kStochastic) {
    if (job.with_column && begins_within_group(job.column)) return segments_within_groups(job, shared);
  }
  work_on_segments<Source, kStochastic, false, kColumnOutput, kRowOutput>(job, shared);
}

// Calls f<column output, row output>() for the kernel that segment_outputs_of names.
template <typename F>
void with_segment_outputs(const Operand& column, const Operand& row, F f) {
  const SegmentOutputs outputs = segment_outputs_of(column, row);
  if (outputs == SegmentOutputs{Output::kInt8, Output::kInt8})
    return f.template operator()<Output::kInt8, Output::kInt8>();
  if (outputs == SegmentOutputs{Output::kPacked, Output::kInt8})
    return f.template operator()<Output::kPacked, Output::kInt8>();
  f.template operator()<Output::kAny, Output::kAny>();
}

// How many clusters of such blocks the device can hold at once.
template <typename Kernel>
int resident_clusters(Kernel* kernel, const cudaLaunchConfig_t& config) {
  int clusters = 0;
  const bool known = cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) == cudaSuccess;
  if (!known) cudaGetLastError();  // the launch will say what is wrong
  return std::max(clusters, 1);
}

// One of `column` and `row` may be null. Where with_segments says that the device has what it takes.
template <typename Source>
void start_segments(const Source& source, const Operand* column, const Operand* row, Stream stream) {
  const Operand& any = column == nullptr ? *row : *column;
  SegmentJob<Source> job{source, any, row == nullptr ? any : *row, column != nullptr, row != nullptr, {}};
  with_segment_outputs(job.column, job.row, [&]<Output kColumnOutput, Output kRowOutput>() {
    const auto start = [&](auto* kernel) {
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(sizeof(SegmentShared)));
      cudaLaunchAttribute cluster{};
      cluster.id = cudaLaunchAttributeClusterDimension;
      const SegmentGrid whole = segment_grid(source.rows(), source.columns(), column, 1);
      cluster.val.clusterDim = {1u << whole.cluster_log2, 1, 1};
      cudaLaunchConfig_t config{};
      config.gridDim = dim3(1u << whole.cluster_log2);
      config.blockDim = dim3(kSegmentThreads);
      config.dynamicSmemBytes = sizeof(SegmentShared);
      config.stream = stream;
      config.attrs = &cluster;
      config.numAttrs = 1;
      job.grid = segment_grid(source.rows(), source.columns(), column, resident_clusters(kernel, config));
      config.gridDim = dim3(job.grid.clusters << job.grid.cluster_log2);
      cudaLaunchKernelEx(&config, kernel, job);
    };
    any.stochastic ? start(&quantize_segments<Source, true, kColumnOutput, kRowOutput>)
                   : start(&quantize_segments<Source, false, kColumnOutput, kRowOutput>);
  });
  check_launch("quantize_segments", source.rows(), source.columns());
}

}  // namespace ufp4::cuda
