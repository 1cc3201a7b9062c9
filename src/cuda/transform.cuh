// The transform of one thread's run of 16 values in registers, and the extremes of its block. Runs that share a block
// or a transform lie in adjacent lanes. All 32 lanes of a warp must call these functions together.
#pragma once

#include "cuda/operand.h"

namespace ufp4::cuda {

inline constexpr unsigned kFullWarp = 0xFFFFFFFFu;

// fmaxf loses a NaN; this keeps it.
__device__ inline float max_nan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// Maximum over kCount indices of what `value` makes of each, as a tree.
template <int kCount, typename Value>
__device__ inline float max_of(Value value) {
  float m[kCount / 2];
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) m[i] = max_nan(value(2 * i), value(2 * i + 1));
#pragma unroll
  for (int n = kCount / 4; n > 0; n /= 2) {
#pragma unroll
    for (int i = 0; i < n; ++i) m[i] = max_nan(m[i], m[i + n]);
  }
  return m[0];
}

// The larger of `x` over the lanes of a block; a NaN wins.
__device__ inline float block_max(float x, int lanes) {
  for (int distance = 1; distance < lanes; distance *= 2) x = max_nan(x, __shfl_xor_sync(kFullWarp, x, distance));
  return x;
}

// One stride of the butterflies inside a run.
template <int kStride>
__device__ inline void butterfly(float (&v)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if (i & kStride) continue;
    const float a = v[i];
    const float b = v[i + kStride];
    v[i] = a + b;
    v[i + kStride] = a - b;
  }
}

// The same for values that stand for themselves or their negatives, which saves the flipping of signs: `relative` has
// +-1 for each pair of groups of kStride values, -1 if the groups differ in that. The results stand as the first group.
// The product with +-1 is exact, so the fused operation rounds as a sum does.
template <int kStride>
__device__ inline void signed_butterfly(float (&v)[kRun], const float* relative) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if (i & kStride) continue;
    const float a = v[i];
    const float b = v[i + kStride];
    const float r = relative[i / (2 * kStride)];
    v[i] = __fmaf_rn(b, r, a);
    v[i + kStride] = __fmaf_rn(b, -r, a);
  }
}

// The transform of any size. `column` is the run's first column in the operand.
__device__ inline void hadamard_across_lanes(float (&v)[kRun], const Operand& p, std::uint32_t column) {
  const std::uint32_t position = column & static_cast<std::uint32_t>(p.hadamard - 1);
  const std::uint32_t signs = p.signs[position >> 5] >> (position & 16u);
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = __uint_as_float(__float_as_uint(v[i]) ^ ((signs << (31 - i)) & 0x80000000u));
  butterfly<1>(v);
  butterfly<2>(v);
  butterfly<4>(v);
  butterfly<8>(v);
  for (int lanes = 1; lanes * kRun < p.hadamard; lanes *= 2) {
    const bool upper = (threadIdx.x & static_cast<unsigned>(lanes)) != 0;
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const float other = __shfl_xor_sync(kFullWarp, v[i], lanes);
      v[i] = upper ? other - v[i] : v[i] + other;
    }
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] *= p.hadamard_scale;
}

// The extremes of a block.
struct Extremes {
  float amax, positive, negative;  // the latter two only for signed scales
};

// Transforms a run and finds the extremes of its block. For Span::kOneRun the values are left without p.run_factor, the
// factor of the transform with the sign of its first element; the extremes have it.
template <Span kSpan>
__device__ inline Extremes transform(float (&v)[kRun], const Operand& p, std::uint32_t column) {
  Extremes e{};
  if (kSpan == Span::kLanes && p.hadamard != 0) hadamard_across_lanes(v, p, column);
  if (kSpan == Span::kOneRun && p.hadamard != 0) {
    signed_butterfly<1>(v, p.relative_signs);
    signed_butterfly<2>(v, p.relative_signs + 8);
    signed_butterfly<4>(v, p.relative_signs + 12);
    // The larger of |a + b| and |a - b| is |a| + |b|, rounding included: half the comparisons.
    if (!p.signed_scale) e.amax = max_of<kRun / 2>([&](int i) { return fabsf(v[i]) + fabsf(v[i + kRun / 2]); });
    signed_butterfly<8>(v, p.relative_signs + 14);
  } else if (!p.signed_scale) {
    e.amax = max_of<kRun>([&](int i) { return fabsf(v[i]); });
  }
  if (p.signed_scale) {
    const float above = max_nan(0.0F, max_of<kRun>([&](int i) { return v[i]; }));
    const float below = max_nan(0.0F, max_of<kRun>([&](int i) { return -v[i]; }));
    const bool flipped = kSpan == Span::kOneRun && p.run_factor < 0;
    e.positive = flipped ? below : above;
    e.negative = flipped ? above : below;
    if constexpr (kSpan == Span::kLanes) e.positive = block_max(e.positive, p.lanes);
    if constexpr (kSpan == Span::kLanes) e.negative = block_max(e.negative, p.lanes);
    e.amax = max_nan(e.positive, e.negative);
  } else if constexpr (kSpan == Span::kLanes) {
    e.amax = block_max(e.amax, p.lanes);
  }
  if constexpr (kSpan == Span::kOneRun) {  // the largest rounded is the largest of the rounded
    const float factor = fabsf(p.run_factor);
    e.amax *= factor, e.positive *= factor, e.negative *= factor;
  }
  return e;
}

}  // namespace ufp4::cuda
