// From the extremes of a block to its scale.
#pragma once

#include "cuda/operand.h"
#include "cuda/transform.cuh"
#include "numerics/window.h"

namespace ufp4::cuda {

inline constexpr std::uint32_t kNanF32 = 0x7FC00000u;  // what the scalar reference writes

struct Scale {
  float scale;    // NaN for a block with a value that is not finite
  float inverse;  // what the values are multiplied with; 0 where all codes are 0
};

// The arithmetic below is for extremes in [2^-100, 2^90], where nothing under- or overflows.

// x / d, correctly rounded, for d = 1 .. 7 times a power of two: `r` is 1 / d rounded and `rest` what r lacks.
__device__ inline float divide_by_level(float x, float r, float rest) { return __fmaf_rn(x, r, x * rest); }

__device__ inline float seventh(float x) {
  constexpr float kRounded = 1.0F / 7;
  constexpr auto kRest = static_cast<float>(1.0 / 7 - static_cast<double>(kRounded));
  return divide_by_level(x, kRounded, kRest);
}

// 1 / x, correctly rounded.
__device__ inline float reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return __fmaf_rn(r, __fmaf_rn(-x, r, 1.0F), r);
}

// d / x, correctly rounded, for the same d.
__device__ inline float divide_level(float d, float x) {
  const float r = reciprocal(x);
  const float q = d * r;
  return __fmaf_rn(__fmaf_rn(-x, q, d), r, q);
}

// With m+ and m- the extremes, M the larger and m the smaller of them: numerics' a = max(m+ / 8, m- / 7) and
// b = max(m- / 8, m+ / 7) are max(M / 8, m / 7), which is never above the other, and M / 7. The scale's magnitude is
// the former, and its sign negative if it belongs to m+ and is smaller indeed.
struct SignedExtreme {
  float magnitude;
  bool negative;
};
// `factor`: what the extremes lack; they have its magnitude or need it not, but not its sign.
__device__ inline SignedExtreme signed_extreme(const Extremes& e, float factor) {
  const float smaller = fminf(e.positive, e.negative);
  const int eighth = __float_as_int(e.amax * 0.125F);
  const float magnitude = __int_as_float(max(eighth, __float_as_int(seventh(smaller))));  // a NaN stays one
  return {magnitude, magnitude < seventh(e.amax) && (e.positive > e.negative) != (factor < 0)};
}

// The scale of int4_full, for any extremes that are finite.
static __device__ __noinline__ float unusual_signed_extreme(float positive, float negative, float factor) {
  positive *= fabsf(factor), negative *= fabsf(factor);
  const float plus = factor < 0 ? negative : positive;
  const float minus = factor < 0 ? positive : negative;
  const float a = fmaxf(plus * 0.125F, __fdiv_rn(minus, 7.0F));
  const float b = fmaxf(minus * 0.125F, __fdiv_rn(plus, 7.0F));
  return a < b ? -a : b;
}

// The scale of a block of ordinary size: finite, and every quotient far from the ends of the range.
template <Grid kGrid>
__device__ inline Scale ordinary_scale(const Extremes& e, float factor, const Operand& p) {
  if constexpr (kSignedScale<kGrid>) {
    const SignedExtreme extreme = signed_extreme(e, factor);
    const float scale = extreme.negative ? -extreme.magnitude : extreme.magnitude;
    return {scale, reciprocal(scale)};
  } else {
    return {divide_by_level(e.amax, p.reciprocal, p.reciprocal_rest), divide_level(p.largest, e.amax)};
  }
}

// Any block that is finite. Not inlined: it is rare, and its divisions would take registers from the common case.
template <Grid kGrid>
static __device__ __noinline__ Scale unusual_scale(Extremes e, float factor, float largest) {
  e.amax *= fabsf(factor);
  if (e.amax < 0x1p-120F) return {0.0F, 0.0F};
  if constexpr (kSignedScale<kGrid>) {
    const float scale = unusual_signed_extreme(e.positive, e.negative, factor);
    return {scale, __frcp_rn(scale)};
  } else {
    return {__fdiv_rn(e.amax, largest), __fdiv_rn(largest, e.amax)};
  }
}

// What the values and the extremes of a run lack (see transform).
template <Span kSpan>
__device__ inline float run_factor(const Operand& p) {
  return kSpan == Span::kOneRun ? p.run_factor : 1.0F;
}

__device__ inline bool is_finite(const Extremes& e) { return e.amax < __uint_as_float(0x7F800000u); }

// The scale of a block of the grids but kWindow, and run_factor applied: to the inverse where that cannot change a code
// (a power of two commutes with rounding, but for subnormal results, and those are far below the first boundary), else
// to the values. Those of a block that is not finite become 0.
template <Grid kGrid, Span kSpan>
__device__ inline Scale block_scale(float (&v)[kRun], const Extremes& e, const Operand& p) {
  const float factor = run_factor<kSpan>(p);
  if (kGrid != Grid::kTable && e.amax > 0x1p-80F && e.amax < 0x1p80F) {
    const float size = fabsf(factor);
    Scale s = ordinary_scale<kGrid>({e.amax * size, e.positive * size, e.negative * size}, factor, p);
    s.inverse *= factor;
    return s;
  }
  const bool finite = is_finite(e);
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = finite ? v[i] * factor : 0.0F;
  return finite ? unusual_scale<kGrid>(e, factor, p.largest) : Scale{__uint_as_float(kNanF32), 0.0F};
}

// kWindow: the least power of two in the window that, times tau, reaches r. The sum carries into the exponent if the
// mantissa is beyond tau's.
__device__ inline std::uint32_t window_power(const Operand& p, float r) {
  return max((__float_as_uint(r) + p.round_up) & 0xFF800000u, kLeastPower);
}

// The range of int4_full.
__device__ inline float clip(float t) { return fminf(fmaxf(t, -8.0F), 7.0F); }

// 1 / x for a signed power of two; the sign comes out of the subtraction as it is.
__device__ inline float power_reciprocal(float x) { return __uint_as_float(0x7F000000u - __float_as_uint(x)); }

// The second-level scale of kWindow and what is seen of the blocks on the way; of no meaning for other grids.
struct Window {
  float outer = 1;
  float inverse = 1;  // 1 / outer with run_factor; NaN where every block must take the long way
  float amax = 0;     // without run_factor
  std::uint32_t clipped = 0;
};

__device__ inline float outer_scale(float amax) { return amax < kLeastOuterAmax ? 0.0F : __fdiv_rn(amax, 224.0F); }
__device__ inline float outer_scale(const Operand& p) {
  return outer_scale(p.tensor_amax_at != nullptr ? *p.tensor_amax_at : p.tensor_amax);
}
__device__ inline float outer_inverse(float outer) { return outer == 0 ? 0.0F : __fdiv_rn(1.0F, outer); }

template <bool kStochastic, Span kSpan>
__device__ inline Window open_window(const Operand& p) {
  Window w;
  w.outer = outer_scale(p);
  const float inverse = outer_inverse(w.outer);
  const bool ordinary = inverse > 0x1p-80F && inverse < 0x1p80F && (!kStochastic || p.tau == 1);
  w.inverse = ordinary ? inverse * run_factor<kSpan>(p) : __uint_as_float(kNanF32);
  return w;
}

// What all threads have seen, to memory. All 32 lanes of a warp call it.
template <Span kSpan>
__device__ inline void close_window(const Operand& p, const Window& w) {
  if (p.amax != nullptr) {
    const float seen = w.amax * fabsf(run_factor<kSpan>(p));
    const std::uint32_t amax = __reduce_max_sync(kFullWarp, __float_as_uint(seen));  // of floats that are not negative
    auto* largest = reinterpret_cast<std::uint32_t*>(p.amax);
    // It only grows: most warps find that others have seen as much, and need not wait for their turn.
    if (threadIdx.x % 32 == 0 && amax > __ldcg(largest)) atomicMax(largest, amax);
  }
  if (p.clipped != nullptr) {
    const std::uint32_t clipped = __reduce_add_sync(kFullWarp, w.clipped);
    if (threadIdx.x % 32 == 0 && clipped != 0) atomicAdd(p.clipped, clipped);
  }
}

// The long way of windowed_scale: any block. The values become what is rounded, clipped.
template <Span kSpan>
__device__ inline Scale unusual_windowed_scale(float (&v)[kRun], const Extremes& e, const Operand& p, Window& w,
                                               bool counted) {
  const float factor = run_factor<kSpan>(p);
  const float inverse = outer_inverse(w.outer);
  const bool finite = is_finite(e);
  const float extreme = unusual_signed_extreme(e.positive, e.negative, factor);
  const float r = fabsf(extreme) * inverse;
  const std::uint32_t power = min(window_power(p, r), kLargestPower);
  const float scale = __uint_as_float(power | (extreme < 0 ? 0x80000000u : 0u));
  if (finite && counted) {
    w.amax = fmaxf(w.amax, e.amax);
    w.clipped += r > 32 * p.tau ? 1 : 0;
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = finite ? clip(v[i] * factor * inverse * power_reciprocal(scale)) : 0.0F;
  return {finite ? scale : __uint_as_float(kNanF32), 1.0F};
}

// The scale of a block of kWindow. `counted`: whether the block is of the operand, and this lane its first. Nearest
// clips what is rounded (see clip_pair); stochastic rounding with tau = 1 needs it in blocks beyond the window only.
template <Span kSpan>
__device__ inline Scale windowed_scale(float (&v)[kRun], const Extremes& e, const Operand& p, Window& w, bool counted) {
  const SignedExtreme extreme = signed_extreme(e, run_factor<kSpan>(p));
  const float r = extreme.magnitude * fabsf(w.inverse);
  if (__float_as_uint(r) - kLeastReach <= p.reach_span) {  // within the window, and neither 0 nor NaN
    const std::uint32_t scale = window_power(p, r) | (extreme.negative ? 0x80000000u : 0u);
    w.amax = fmaxf(w.amax, e.amax);  // of the operand: runs beyond it are zeros or repeat one of it
    return {__uint_as_float(scale), power_reciprocal(__uint_as_float(scale)) * w.inverse};
  }
  return unusual_windowed_scale<kSpan>(v, e, p, w, counted);
}

}  // namespace ufp4::cuda
