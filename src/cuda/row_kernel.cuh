// Blocks along the stored rows. A thread owns whole runs of 16 in registers and loads the next run while it works on
// one, so that reads are always under way; nothing passes through shared memory.
#pragma once

#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/policy.h"
#include "cuda/run.cuh"
#include "cuda/store.cuh"
#include "cuda/values.cuh"

namespace ufp4::cuda {

inline constexpr int kRowThreads = 256;

template <DType kType>
struct RawRun {
  static constexpr int kWords = kRun / Values<kType>::kPerWord;
  std::uint32_t words[kWords];
};

// The run at `from`, of which `valid` elements lie within the matrix and the rest are zeros; with `vectors` all are
// valid and aligned to 16 bytes.
template <DType kType>
__device__ inline RawRun<kType> load_run(const typename Values<kType>::Element* from, bool vectors, int valid) {
  RawRun<kType> raw{};
  if (vectors) {
#pragma unroll
    for (int i = 0; i < RawRun<kType>::kWords / 4; ++i) {
      const uint4 x = __ldg(reinterpret_cast<const uint4*>(from) + i);
      raw.words[4 * i] = x.x, raw.words[4 * i + 1] = x.y, raw.words[4 * i + 2] = x.z, raw.words[4 * i + 3] = x.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      if (i >= valid) continue;
      if constexpr (Values<kType>::kPerWord == 1) {
        raw.words[i] = __float_as_uint(from[i]);
      } else {
        raw.words[i / 2] |= static_cast<std::uint32_t>(from[i]) << (16 * (i % 2));
      }
    }
  }
  return raw;
}

template <DType kType>
__device__ inline void unpack(const RawRun<kType>& raw, float (&v)[kRun]) {
  constexpr int kPerWord = Values<kType>::kPerWord;
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = Values<kType>::get(raw.words[i / kPerWord], i % kPerWord);
}

template <DType kType>
inline constexpr int kRowResident = kType == DType::kF32 ? 3 : 4;  // blocks on a multiprocessor

// A thread keeps its column of runs and goes down the rows. A block is 2^width_log2 runs wide.
template <DType kType, Grid kGrid, bool kStochastic, Span kSpan, Output kOutput>
__global__ void __launch_bounds__(kRowThreads, kRowResident<kType>)
    quantize_rows(const __grid_constant__ Matrix in, const __grid_constant__ Operand p, int width_log2) {
  using Element = typename Values<kType>::Element;
  if (!wanted<kGrid>(p)) return;
  Running running = begin<kGrid, kStochastic, kSpan>(p);
  const unsigned rows_per_block = kRowThreads >> width_log2;
  const std::uint32_t run = (blockIdx.x << width_log2) + (threadIdx.x & ((1u << width_log2) - 1));
  const std::uint32_t column = run * kRun;
  const std::uint32_t step = gridDim.y * rows_per_block;
  const std::uint32_t first_row = blockIdx.y * rows_per_block;
  // How many rows from `row` on are this thread's, and how many the warp's first has: the lanes stay together.
  const auto count = [&](std::uint32_t row) { return row < p.rows ? (p.rows - row - 1) / step + 1 : 0; };
  const unsigned warp_count = count(first_row + ((threadIdx.x & ~31u) >> width_log2));
  std::uint32_t row = first_row + (threadIdx.x >> width_log2);
  const unsigned own_count = column < p.columns ? count(row) : 0;
  const int valid = column < in.columns ? static_cast<int>(min(in.columns - column, std::uint32_t{kRun})) : 0;
  const bool vectors = in.vector_rows && valid == kRun;
  const auto* from = static_cast<const Element*>(in.data) + row * in.row_stride + column;
  const std::int64_t advance = step * in.row_stride;

  __shared__ GroupStarts<kStochastic ? kRowThreads : 1> own_groups;  // each thread's, for all its rows
  RunGroups groups{};
  if constexpr (kStochastic) {
    groups = {&own_groups.starts[0][threadIdx.x], &own_groups.starts[1][threadIdx.x]};
    own_groups.starts[0][threadIdx.x] = group_start(p, running.step, (column + p.column_offset) >> 3);
    own_groups.starts[1][threadIdx.x] = group_start(p, running.step, (column + p.column_offset + 8) >> 3);
  }
  RawRun<kType> next{};
  if (own_count > 0) next = load_run<kType>(from, vectors, valid);
  for (unsigned i = 0; i < warp_count; ++i) {
    float v[kRun];
    unpack<kType>(next, v);
    from += advance;
    if (i + 1 < own_count) next = load_run<kType>(from, vectors, valid);
    const RunIndices result =
        quantize_run<kGrid, kStochastic, kSpan, kOutput>(v, p, running, groups, row, column, i < own_count);
    store_run<kGrid, kStochastic, kSpan, kOutput>(p, row, run, result, running, i < own_count);
    row += step;
  }
  end<kGrid, kSpan>(p, running);
}

// The widest block that leaves few threads idle. Blocks and transforms span a power of two of runs that divides a row.
inline int row_width_log2(std::int64_t runs_per_row) {
  int width_log2 = 8;
  while (width_log2 > 0) {
    const std::int64_t padded = (runs_per_row + (1 << width_log2) - 1) >> width_log2 << width_log2;
    if (padded * 15 <= runs_per_row * 16) break;
    --width_log2;
  }
  return width_log2;
}

// Rows of a thread that writes values. They are as large as the input, and where threads stay for many rows their
// blocks drift apart and do not fill lines of memory at one time: 193 us instead of 135 (docs/performance.md). With one
// row no read would be under way while a thread works.
inline constexpr std::int64_t kRowsOfValues = 6;

template <DType kType, Grid kGrid, bool kStochastic>
void start_rows(const Matrix& in, const Operand& p, Stream stream) {
  const std::int64_t runs_per_row = p.columns / kRun;
  const int width_log2 = row_width_log2(runs_per_row);
  const std::int64_t across = (runs_per_row + (1 << width_log2) - 1) >> width_log2;
  const std::int64_t rows_per_block = kRowThreads >> width_log2;
  const std::int64_t down = (std::int64_t{p.rows} + rows_per_block - 1) / rows_per_block;
  // Packed: threads that stay, for rows few blocks wide and where memory is the limit; else a few waves, which balance
  // what does not divide evenly and blocks that do not progress evenly.
  const std::int64_t filling = resident_blocks(kRowResident<kType>);
  const bool light = !kStochastic && kGrid != Grid::kFloat && p.hadamard <= kRun;
  const int waves = light && across * 8 <= filling ? 1 : 4;
  const std::int64_t wanted = p.dequantized != nullptr ? (down + kRowsOfValues - 1) / kRowsOfValues
                                                       : std::max<std::int64_t>(1, waves * filling / across);
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(std::min({down, wanted, std::int64_t{65535}})));
  with_output<kGrid>(p, [&]<Span kSpan, Output kOutput>() {
    quantize_rows<kType, kGrid, kStochastic, kSpan, kOutput><<<grid, kRowThreads, 0, stream>>>(in, p, width_log2);
  });
  check_launch("quantize_rows", in.rows, in.columns);
}

}  // namespace ufp4::cuda
