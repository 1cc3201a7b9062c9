// Blocks along the stored rows. A thread owns whole runs of 16 in registers and loads the next run while it works on
// one, so that reads are always under way; nothing passes through shared memory.
#pragma once

#include "cuda/kernels.h"
#include "cuda/policy.h"
#include "cuda/quantize_run.cuh"
#include "cuda/store.cuh"
#include "cuda/values.cuh"

namespace ufp4::cuda {

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

// Keeps what is the same for all rows in a register: the compiler would rather make it anew for every row.
template <typename T>
__device__ inline void keep(T& x) {
  if constexpr (sizeof(T) == 8) {
    asm("" : "+l"(x));
  } else {
    asm("" : "+r"(x));
  }
}

// The values are taken from the words here, so that the next ones can come to the same registers.
__device__ inline void take(float (&v)[kRun]) {
#pragma unroll
  for (float& x : v) asm volatile("" : "+f"(x));
}

// A thread keeps its column of runs and goes down the rows. A block is 2^width_log2 runs wide.
template <DType kType, Policy kPolicy, bool kStochastic, Span kSpan, Output kOutput>
__global__ void __launch_bounds__(kRowThreads, row_resident(kType))
    quantize_rows(const __grid_constant__ Matrix in, const __grid_constant__ Operand p, int width_log2) {
  using Element = typename Values<kType>::Element;
  if (!wanted<kPolicy>(p)) return;
  Running running = begin<kPolicy, kStochastic, kSpan>(p);
  const unsigned rows_per_block = kRowThreads >> width_log2;
  std::uint32_t run = (blockIdx.x << width_log2) + (threadIdx.x & ((1u << width_log2) - 1));
  keep(run);
  const std::uint32_t column = run * kRun;
  std::uint32_t step = gridDim.y * rows_per_block;
  keep(step);
  const std::uint32_t first_row = blockIdx.y * rows_per_block;
  // How many rows from `row` on are this thread's, and how many the warp's first has: the lanes stay together.
  const auto count = [&](std::uint32_t row) { return row < p.rows ? (p.rows - row - 1) / step + 1 : 0; };
  const unsigned warp_count = count(first_row + ((threadIdx.x & ~31u) >> width_log2));
  std::uint32_t row = first_row + (threadIdx.x >> width_log2);
  const unsigned own_count = column < p.columns ? count(row) : 0;
  const int valid = column < in.columns ? static_cast<int>(min(in.columns - column, std::uint32_t{kRun})) : 0;
  int vectors = in.vector_rows && valid == kRun ? 1 : 0;
  keep(vectors);
  const auto* from = static_cast<const Element*>(in.data) + row * in.row_stride + column;
  std::int64_t advance = step * in.row_stride;
  keep(advance);

  __shared__ GroupStarts<kStochastic ? kRowThreads : 1> own_groups;  // each thread's, for all its rows
  RunGroups groups{};
  if constexpr (kStochastic) {
    groups = {&own_groups.starts[0][threadIdx.x], &own_groups.starts[1][threadIdx.x]};
    const std::uint32_t offset = running.start.column_offset;
    own_groups.starts[0][threadIdx.x] = group_start(p, running.start, (column + offset) >> 3);
    own_groups.starts[1][threadIdx.x] = group_start(p, running.start, (column + offset + 8) >> 3);
  }
  RawRun<kType> next{};
  if (own_count > 0) next = load_run<kType>(from, vectors != 0, valid);
  for (unsigned i = 0; i < warp_count; ++i) {
    float v[kRun];
    unpack<kType>(next, v);
    take(v);
    from += advance;
    keep(from);
    if (i + 1 < own_count) next = load_run<kType>(from, vectors != 0, valid);
    const RunIndices result =
        quantize_run<kPolicy, kStochastic, kSpan, kOutput>(v, p, running, groups, row, column, i < own_count);
    store_run<kPolicy, kStochastic, kSpan, kOutput>(p, row, run, result, running, i < own_count);
    row += step;
  }
  end<kPolicy, kSpan>(p, running);
}

template <DType kType, Policy kPolicy, bool kStochastic>
void start_rows(const Matrix& in, const Operand& p, Stream stream) {
  const RowLaunch launch = row_launch(p, kType, multiprocessors());
  const dim3 grid(launch.across, launch.down);
  with_output<kPolicy>(p, [&]<Span kSpan, Output kOutput>() {
    quantize_rows<kType, kPolicy, kStochastic, kSpan, kOutput>
        <<<grid, kRowThreads, 0, stream>>>(in, p, launch.width_log2);
  });
  check_launch("quantize_rows", in.rows, in.columns);
}

}  // namespace ufp4::cuda
