// The result of a layer, written.
#pragma once

#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/layer.cuh"

namespace ufp4::cuda {

inline constexpr int kComputeThreads = 256;
inline constexpr int kComputeResident = 4;

// A thread goes down a column of vectors, or two of a layer whose columns come in pairs. A block is 2^width_log2
// vectors wide.
template <typename Layer>
__global__ void __launch_bounds__(kComputeThreads, kComputeResident)
    compute_layer(const __grid_constant__ Layer layer, Bf16* __restrict__ out, int width_log2) {
  const auto rows = static_cast<std::uint32_t>(layer.rows());
  const std::uint32_t vector = (blockIdx.x << width_log2) + (threadIdx.x & ((1u << width_log2) - 1));
  std::uint32_t first = vector * 8;
  std::uint32_t half = 0;
  if constexpr (Layer::kPairs != Pairs::kNone) {
    half = static_cast<std::uint32_t>(layer.half());
    first += first / half * half;
  }
  if (first >= layer.columns()) return;
  const std::uint32_t step = gridDim.y * (kComputeThreads >> width_log2);
  const auto column = layer.at(first);
  for (std::uint32_t row = blockIdx.y * (kComputeThreads >> width_log2) + (threadIdx.x >> width_log2); row < rows;
       row += step) {
    auto* to = reinterpret_cast<uint4*>(out + row * layer.columns() + first);
    const auto raw = layer.fetch(column, row);
    if constexpr (Layer::kPairs != Pairs::kNone) {
      uint4 both[2];
      layer.finish_both(column, raw, both);
      to[0] = both[0];
      to[half / 8] = both[1];
    } else {
      to[0] = layer.finish(column, raw);
    }
  }
}

template <typename Layer>
void start_compute(const Layer& layer, Bf16* out, Stream stream) {
  const std::int64_t vectors = layer.columns() / (Layer::kPairs == Pairs::kNone ? 8 : 16);
  int width_log2 = 0;
  while (width_log2 < 8 && (std::int64_t{1} << width_log2) < vectors) ++width_log2;
  const std::int64_t across = (vectors + (1 << width_log2) - 1) >> width_log2;
  const std::int64_t rows_per_block = kComputeThreads >> width_log2;
  const std::int64_t down = (layer.rows() + rows_per_block - 1) / rows_per_block;
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(std::min<std::int64_t>(down, 65535)));
  compute_layer<<<grid, kComputeThreads, 0, stream>>>(layer, out, width_log2);
  check_launch("compute_layer", layer.rows(), layer.columns());
}

}  // namespace ufp4::cuda
