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
#pragma unroll
  for (int distance = 1; distance < kBlockSizes.back() / kRun; distance *= 2) {
    if (distance >= lanes) break;
    x = max_nan(x, __shfl_xor_sync(kFullWarp, x, distance));
  }
  return x;
}

// The sum of `x` over the lanes of a block, in any order.
__device__ inline float block_sum(float x, int lanes) {
#pragma unroll
  for (int distance = 1; distance < kBlockSizes.back() / kRun; distance *= 2) {
    if (distance >= lanes) break;
    x += __shfl_xor_sync(kFullWarp, x, distance);
  }
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

// The largest of 16 integers and `least`, three at a time as the hardware compares them.
template <typename T, typename Value>
__device__ inline T largest_of_run(T least, Value value) {
  const auto three = [](T a, T b, T c) { return max(max(a, b), c); };
  T m[5];
#pragma unroll
  for (int i = 0; i < 5; ++i) m[i] = three(value(3 * i), value(3 * i + 1), value(3 * i + 2));
  return max(three(three(m[0], m[1], m[2]), three(m[3], m[4], value(15)), least), least);
}

// The extremes of a block; a NaN is the largest of all.
struct Extremes {
  float amax;
  float positive, negative;  // of the values and of their negatives, at least 0; only for signed scales
};

// As integers: positive floats are ordered as their bits are, and as unsigned numbers the negative ones lie above them,
// the largest magnitude on top.
__device__ inline Extremes signed_extremes(const float (&v)[kRun]) {
  const int above = largest_of_run<int>(0, [&](int i) { return __float_as_int(v[i]); });
  const std::uint32_t top = largest_of_run<std::uint32_t>(0, [&](int i) { return __float_as_uint(v[i]); });
  const int below = max(static_cast<int>(top ^ 0x80000000u), 0);
  return {__int_as_float(max(above, below)), __int_as_float(above), __int_as_float(below)};
}

// A transform of a run, all but p.run_factor. `before_last` sees the values before the last stride.
template <typename BeforeLast>
__device__ inline void signed_transform(float (&v)[kRun], const Operand& p, BeforeLast before_last) {
  signed_butterfly<1>(v, p.relative_signs);
  signed_butterfly<2>(v, p.relative_signs + 8);
  signed_butterfly<4>(v, p.relative_signs + 12);
  before_last();
  signed_butterfly<8>(v, p.relative_signs + 14);
}

// Transforms a run, as `transform` below.
template <Span kSpan>
__device__ inline void transform_only(float (&v)[kRun], const Operand& p, std::uint32_t column) {
  if (p.hadamard == 0) return;
  if constexpr (kSpan == Span::kLanes) {
    hadamard_across_lanes(v, p, column);
  } else {
    signed_transform(v, p, [] {});
  }
}

// Transforms a run and finds the extremes of its block. Of transforms of a run, values and extremes are left without
// p.run_factor: the factor of the transform with the sign of its first element.
template <bool kSigned, Span kSpan>
__device__ inline Extremes transform(float (&v)[kRun], const Operand& p, std::uint32_t column) {
  Extremes e{};
  if (kSpan == Span::kLanes && p.hadamard != 0) hadamard_across_lanes(v, p, column);
  if (kSpan != Span::kLanes && p.hadamard != 0) {
    signed_transform(v, p, [&] {
      // The larger of |a + b| and |a - b| is |a| + |b|, rounding included: half the comparisons.
      if constexpr (!kSigned) {
        int m[kRun / 2];
#pragma unroll
        for (int i = 0; i < kRun / 2; ++i) m[i] = __float_as_int(fabsf(v[i]) + fabsf(v[i + kRun / 2]));
        e.amax = __int_as_float(max(max(max(max(m[0], m[1]), m[2]), max(max(m[3], m[4]), m[5])), max(m[6], m[7])));
      }
    });
  } else if constexpr (!kSigned) {
    e.amax = max_of<kRun>([&](int i) { return fabsf(v[i]); });
  }
  if constexpr (kSigned) e = signed_extremes(v);
  if constexpr (kSpan != Span::kOneRun) {
    e.amax = block_max(e.amax, p.lanes);
    if constexpr (kSigned) e.positive = block_max(e.positive, p.lanes);
    if constexpr (kSigned) e.negative = block_max(e.negative, p.lanes);
  }
  return e;
}

}  // namespace ufp4::cuda
