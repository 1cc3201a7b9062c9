// Results to memory: codes, scales and dequantized values of a run. All 32 lanes of a warp call these functions
// together.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "cuda/operand.h"
#include "cuda/run.cuh"

namespace ufp4::cuda {

inline constexpr std::uint32_t kNanBf16x2 = 0x7FC07FC0u;  // what the scalar reference writes, twice

__device__ inline std::uint32_t bf16x2(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Writes 16 values, or NaN, to element `at` of `out`: FP32.
__device__ inline void store_f32_run(void* out, std::int64_t at, const float (&v)[kRun], bool nan) {
  auto* to = reinterpret_cast<float4*>(static_cast<float*>(out) + at);
  const float quiet = __uint_as_float(kNanF32);
#pragma unroll
  for (int i = 0; i < kRun; i += 4) {
    to[i / 4] = nan ? make_float4(quiet, quiet, quiet, quiet) : make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  }
}

// Writes the values v[0..16) of a run, or NaN where its scale is that, to element `at` of `out`: FP32 or BF16. The
// halves of a sector of memory that a BF16 run fills meet in the cache: that is faster than exchanging them between
// lanes.
__device__ inline void store_values(void* out, bool f32, std::int64_t at, const float (&v)[kRun], float scale) {
  if (f32) return store_f32_run(out, at, v, isnan(scale));
  std::uint32_t words[kRun / 2];
#pragma unroll
  for (int i = 0; i < kRun / 2; ++i) words[i] = bf16x2(v[2 * i], v[2 * i + 1]);
  if (isnan(scale)) {
#pragma unroll
    for (int i = 0; i < kRun / 2; ++i) words[i] = kNanBf16x2;
  }
  auto* to = reinterpret_cast<uint4*>(static_cast<std::uint16_t*>(out) + at);
  to[0] = make_uint4(words[0], words[1], words[2], words[3]);
  to[1] = make_uint4(words[4], words[5], words[6], words[7]);
}

// The values of the codes, times `scale`.
__device__ inline void look_up(uint2 codes, float scale, float lane_value, float (&v)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const std::uint32_t word = i < 8 ? codes.x : codes.y;
    v[i] = __shfl_sync(kFullWarp, lane_value, static_cast<int>(word >> (4 * (i % 8))), 16) * scale;
  }
}

__device__ inline std::uint32_t e4m3x4(float a, float b, float c, float d) {
  const std::uint32_t low = __nv_cvt_float2_to_fp8x2({a, b}, __NV_SATFINITE, __NV_E4M3);
  const std::uint32_t high = __nv_cvt_float2_to_fp8x2({c, d}, __NV_SATFINITE, __NV_E4M3);
  return low | (high << 16);
}

// Writes 16 values that E4M3 has, or NaN.
__device__ inline void store_e4m3_run(std::uint8_t* to, const float (&v)[kRun], bool nan) {
  std::uint32_t words[kRun / 4];
#pragma unroll
  for (int i = 0; i < kRun; i += 4) words[i / 4] = e4m3x4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  constexpr std::uint32_t kNan = 0x7F7F7F7Fu;
  *reinterpret_cast<uint4*>(to) =
      nan ? make_uint4(kNan, kNan, kNan, kNan) : make_uint4(words[0], words[1], words[2], words[3]);
}

// Writes the results of a run of a row. All lanes call it; those with `write` store.
template <Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline void store_run(const Operand& p, std::uint32_t row, std::uint32_t run, const RunIndices& result,
                                 const Running& running, bool write) {
  constexpr bool kByFormula = kGrid == Grid::kUniform || kGrid == Grid::kWindow;
  const std::uint64_t at = std::uint64_t{row} * p.runs_per_row + run;
  uint2 codes{};
  if (!kByFormula || p.codes != nullptr) codes = codes_of<kGrid, kStochastic>(result, p);
  if (p.codes != nullptr && write) reinterpret_cast<uint2*>(p.codes)[at] = codes;
  if (write && first_of_block<kSpan>(p)) {
    const std::uint64_t block = kSpan == Span::kLanes ? at >> p.lanes_shift : at;
    if (p.scales != nullptr) p.scales[block] = result.scale;
    if constexpr (kGrid == Grid::kWindow) {
      if (p.packed_scales != nullptr) {
        p.packed_scales[block] =
            isnan(result.scale) ? 0x7F : __nv_cvt_float_to_fp8(result.scale, __NV_SATFINITE, __NV_E4M3);
      }
    }
  }
  if (p.dequantized == nullptr && p.e4m3 == nullptr) return;
  float v[kRun];
  if constexpr (kByFormula) {
    const float step = p.step * result.scale;  // a power of two: the products are rounded as level * scale is
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = index_value<kStochastic>(result.x[i]) * step;
  } else {
    look_up(codes, result.scale, running.lane_value, v);
  }
  if constexpr (kGrid == Grid::kWindow) {
    if (p.e4m3 != nullptr && write) store_e4m3_run(p.e4m3 + at * kRun, v, isnan(result.scale));
    if (p.dequantized == nullptr) return;
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] *= running.window.outer;
  }
  if (write) store_values(p.dequantized, p.dequantized_f32, static_cast<std::int64_t>(at) * kRun, v, result.scale);
}

}  // namespace ufp4::cuda
