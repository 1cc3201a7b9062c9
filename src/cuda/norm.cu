// The statistics of RMSNorm and its backward pass.
#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/layer.cuh"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// The same bits in every lane.
__device__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}

__device__ float sum_of_squares(uint4 v, float sum) {
  for (const std::uint32_t word : {v.x, v.y, v.z, v.w}) {
    sum = __fmaf_rn(low_value(word), low_value(word), sum);
    sum = __fmaf_rn(high_value(word), high_value(word), sum);
  }
  return sum;
}

// A warp a row.
__global__ void __launch_bounds__(kThreads) statistics_of_rows(const __grid_constant__ RmsStatistics p) {
  const auto vectors = static_cast<int>(p.columns / 8);
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; row < p.rows; row += step) {
    const std::int64_t start = row * p.columns;
    float sum = 0;
#pragma unroll 4
    for (int i = lane; i < vectors; i += 32) {
      uint4 v = *reinterpret_cast<const uint4*>(p.x + start + 8 * i);
      if (p.branch != nullptr) {
        v = map_pairs(v, load_vector(p.branch + start + 8 * i), [](float a, float b) { return a + b; });
        *reinterpret_cast<uint4*>(p.sum + start + 8 * i) = v;
      }
      sum = sum_of_squares(v, sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      p.rstd[row] = static_cast<float>(1 / sqrt(static_cast<double>(sum) / static_cast<double>(p.columns) + p.epsilon));
    }
  }
}

// Rows whose share of dweight is summed first: fixed, so that the bits do not depend on the device.
constexpr int kPartRows = 32;

// A block goes through the rows of a part; a thread owns kVectors vectors of eight columns, kThreads vectors apart.
template <int kVectors>
__global__ void __launch_bounds__(kThreads) backward_of_part(const __grid_constant__ RmsNormBackward p) {
  __shared__ float partial[2][kWarps];
  const auto vectors = static_cast<int>(p.columns / 8);
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kPartRows;
  const auto rows = static_cast<int>(min(p.rows - first_row, std::int64_t{kPartRows}));
  float weight[kVectors][8];
  float dweight[kVectors][8];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int vector = static_cast<int>(threadIdx.x) + k * kThreads;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      weight[k][i] = vector < vectors ? __ldg(p.weight + 8 * vector + i) : 0.0F;
      dweight[k][i] = 0;
    }
  }
  uint4 next_x[kVectors];
  uint4 next_dy[kVectors];
  const auto fetch = [&](int r) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const int vector = static_cast<int>(threadIdx.x) + k * kThreads;
      const std::int64_t at = (first_row + r) * p.columns + 8 * vector;
      const bool valid = r < rows && vector < vectors;
      next_x[k] = valid ? *reinterpret_cast<const uint4*>(p.x + at) : uint4{};
      next_dy[k] = valid ? *reinterpret_cast<const uint4*>(p.dy + at) : uint4{};
    }
  };
  fetch(0);
  for (int r = 0; r < rows; ++r) {
    uint4 x[kVectors];
    uint4 dy[kVectors];
    uint4 residual[kVectors];
    const float rstd = __ldg(p.rstd + first_row + r);
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      x[k] = next_x[k];
      dy[k] = next_dy[k];
      const int vector = static_cast<int>(threadIdx.x) + k * kThreads;
      const std::int64_t at = (first_row + r) * p.columns + 8 * vector;
      residual[k] =
          p.residual != nullptr && vector < vectors ? *reinterpret_cast<const uint4*>(p.residual + at) : uint4{};
    }
    fetch(r + 1);
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const std::uint32_t xs[4] = {x[k].x, x[k].y, x[k].z, x[k].w};
      const std::uint32_t dys[4] = {dy[k].x, dy[k].y, dy[k].z, dy[k].w};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float xi = i % 2 == 0 ? low_value(xs[i / 2]) : high_value(xs[i / 2]);
        const float dyi = i % 2 == 0 ? low_value(dys[i / 2]) : high_value(dys[i / 2]);
        const float product = dyi * (xi * rstd);
        dweight[k][i] += product;
        sum = __fmaf_rn(product, weight[k][i], sum);
      }
    }
    sum = warp_sum(sum);
    float* shared = partial[r % 2];
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sum;
    __syncthreads();  // the other half of `partial` is written only after the next one
    float mean = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) mean += shared[i];
    mean /= static_cast<float>(p.columns);
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const int vector = static_cast<int>(threadIdx.x) + k * kThreads;
      if (vector >= vectors) continue;
      const std::uint32_t xs[4] = {x[k].x, x[k].y, x[k].z, x[k].w};
      const std::uint32_t dys[4] = {dy[k].x, dy[k].y, dy[k].z, dy[k].w};
      const std::uint32_t residuals[4] = {residual[k].x, residual[k].y, residual[k].z, residual[k].w};
      const auto gradient = [&](float dyi, float xi, float w) { return rstd * __fmaf_rn(-(xi * rstd), mean, dyi * w); };
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        words[i] = round_pair(gradient(low_value(dys[i]), low_value(xs[i]), weight[k][2 * i]),
                              gradient(high_value(dys[i]), high_value(xs[i]), weight[k][2 * i + 1]));
        if (p.residual != nullptr) {
          words[i] = round_pair(low_value(residuals[i]) + low_value(words[i]),
                                high_value(residuals[i]) + high_value(words[i]));
        }
      }
      *reinterpret_cast<uint4*>(p.dx + (first_row + r) * p.columns + 8 * vector) =
          make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int vector = static_cast<int>(threadIdx.x) + k * kThreads;
    if (vector >= vectors) continue;
    auto* to = reinterpret_cast<float4*>(p.workspace + blockIdx.x * p.columns + 8 * vector);
    to[0] = make_float4(dweight[k][0], dweight[k][1], dweight[k][2], dweight[k][3]);
    to[1] = make_float4(dweight[k][4], dweight[k][5], dweight[k][6], dweight[k][7]);
  }
}

constexpr int kSumColumns = 32;
constexpr int kSumGroups = 32;

// Adds the parts: each of the groups every 32nd, then the groups one after the other.
__global__ void __launch_bounds__(kSumColumns* kSumGroups)
    sum_of_parts(const float* __restrict__ parts, std::int64_t count, std::int64_t columns, float* dweight) {
  __shared__ float sums[kSumGroups][kSumColumns];
  const std::int64_t column = std::int64_t{blockIdx.x} * kSumColumns + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (std::int64_t part = threadIdx.y; part < count; part += kSumGroups) sum += parts[part * columns + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kSumGroups; ++i) total += sums[i][threadIdx.x];
  dweight[column] = total;
}

std::int64_t parts_of(std::int64_t rows) { return (rows + kPartRows - 1) / kPartRows; }

}  // namespace

std::int64_t rms_norm_backward_workspace(std::int64_t rows, std::int64_t columns) { return parts_of(rows) * columns; }

void launch_rms_statistics(const RmsStatistics& p, Stream stream) {
  const auto blocks = std::min((p.rows + kWarps - 1) / kWarps, 32 * multiprocessors());
  statistics_of_rows<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(p);
  check_launch("statistics_of_rows", p.rows, p.columns);
}

void launch_rms_norm_backward(const RmsNormBackward& p, Stream stream) {
  const std::int64_t parts = parts_of(p.rows);
  const std::int64_t vectors = (p.columns / 8 + kThreads - 1) / kThreads;  // a thread
  const auto blocks = static_cast<unsigned>(parts);
  if (vectors <= 1) {
    backward_of_part<1><<<blocks, kThreads, 0, stream>>>(p);
  } else if (vectors <= 2) {
    backward_of_part<2><<<blocks, kThreads, 0, stream>>>(p);
  } else if (vectors <= 4) {
    backward_of_part<4><<<blocks, kThreads, 0, stream>>>(p);
  } else {
    backward_of_part<8><<<blocks, kThreads, 0, stream>>>(p);
  }
  check_launch("backward_of_part", p.rows, p.columns);
  const auto across = static_cast<unsigned>((p.columns + kSumColumns - 1) / kSumColumns);
  sum_of_parts<<<across, dim3(kSumColumns, kSumGroups), 0, stream>>>(p.workspace, parts, p.columns, p.dweight);
  check_launch("sum_of_parts", parts, p.columns);
}

}  // namespace ufp4::cuda
