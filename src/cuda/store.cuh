// Results to memory: codes, scales and dequantized values of a run. All 32 lanes of a warp call these functions
// together.
#pragma once

#include <cuda_bf16.h>

#include "cuda/operand.h"
#include "cuda/run.cuh"

namespace ufp4::cuda {

inline constexpr std::uint32_t kNanBf16x2 = 0x7FC07FC0u;  // what the scalar reference writes, twice

// The values of the codes live one a lane, so that a lookup is a shuffle: exact for any table.
__device__ inline float values_of_lane(const float (&values)[16]) { return values[threadIdx.x % 16]; }

__device__ inline std::uint32_t bf16x2(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Writes value * scale of eight codes to element `at` of `out`, nothing for a negative `at`.
__device__ inline void store_eight(void* out, bool f32, std::int64_t at, std::uint32_t codes, float scale,
                                   float lane_value) {
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = __shfl_sync(kFullWarp, lane_value, static_cast<int>(codes >> (4 * i)), 16) * scale;
  if (at < 0) return;
  const bool nan = isnan(scale);
  if (f32) {
    auto* to = reinterpret_cast<float4*>(static_cast<float*>(out) + at);
    const float quiet = __uint_as_float(kNanF32);
    to[0] = nan ? make_float4(quiet, quiet, quiet, quiet) : make_float4(v[0], v[1], v[2], v[3]);
    to[1] = nan ? make_float4(quiet, quiet, quiet, quiet) : make_float4(v[4], v[5], v[6], v[7]);
  } else {
    *reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(out) + at) =
        nan ? make_uint4(kNanBf16x2, kNanBf16x2, kNanBf16x2, kNanBf16x2)
            : make_uint4(bf16x2(v[0], v[1]), bf16x2(v[2], v[3]), bf16x2(v[4], v[5]), bf16x2(v[6], v[7]));
  }
}

// Writes value * scale of the run at element `at`. A lane and its neighbour exchange halves of their runs, so that the
// two write whole sectors of memory at a time. All lanes call it; those with `write` store.
__device__ inline void store_dequantized(void* out, bool f32, std::int64_t at, uint2 codes, float scale,
                                         float lane_value, bool write) {
  const bool odd = (threadIdx.x & 1u) != 0;
  const std::int64_t own = write ? at : -1;
  const std::int64_t other = __shfl_xor_sync(kFullWarp, own, 1);
  const float other_scale = __shfl_xor_sync(kFullWarp, scale, 1);
  const std::uint32_t other_codes = __shfl_xor_sync(kFullWarp, odd ? codes.x : codes.y, 1);
  const std::int64_t half = odd ? 8 : 0;  // the odd lane has the upper halves of both runs
  const std::int64_t first = odd ? other : own;
  const std::int64_t second = odd ? own : other;
  store_eight(out, f32, first < 0 ? -1 : first + half, odd ? other_codes : codes.x, odd ? other_scale : scale,
              lane_value);
  store_eight(out, f32, second < 0 ? -1 : second + half, odd ? codes.y : other_codes, odd ? scale : other_scale,
              lane_value);
}

// Writes the results of a run of a row. All lanes call it; those with `write` store.
template <Span kSpan>
__device__ inline void store_run(const Operand& p, std::uint32_t row, std::uint32_t run, const RunCodes& result,
                                 float lane_value, bool write) {
  const std::uint64_t at = std::uint64_t{row} * p.runs_per_row + run;
  if (p.codes != nullptr && write) reinterpret_cast<uint2*>(p.codes)[at] = result.codes;
  const bool first_of_block = kSpan != Span::kLanes || (threadIdx.x & static_cast<unsigned>(p.lanes - 1)) == 0;
  if (p.scales != nullptr && write && first_of_block) {
    p.scales[kSpan == Span::kLanes ? at >> p.lanes_shift : at] = result.scale;
  }
  if (p.dequantized != nullptr) {
    store_dequantized(p.dequantized, p.dequantized_f32, static_cast<std::int64_t>(at) * kRun, result.codes,
                      result.scale, lane_value, write);
  }
}

}  // namespace ufp4::cuda
