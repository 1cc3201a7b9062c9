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

// a / b, correctly rounded, for a and b in [2^-90, 2^90]; `r` is 1 / b within an ulp. Two corrections of the quotient.
__device__ inline float divide(float a, float b, float r) {
  float q = a * r;
  q = __fmaf_rn(__fmaf_rn(-b, q, a), r, q);
  return __fmaf_rn(__fmaf_rn(-b, q, a), r, q);
}

__device__ inline float reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return __fmaf_rn(r, __fmaf_rn(-x, r, 1.0F), r);
}

// The scale of a block of ordinary size: finite, and every quotient far from the ends of the range.
__device__ inline Scale ordinary_scale(const Extremes& e, const Operand& p) {
  if (p.signed_scale) {  // the larger extreme takes -8
    constexpr float kSeventh = 1.0F / 7;
    const float a = fmaxf(e.positive * 0.125F, divide(e.negative, 7.0F, kSeventh));
    const float b = fmaxf(e.negative * 0.125F, divide(e.positive, 7.0F, kSeventh));
    const float scale = a < b ? -a : b;
    return {scale, divide(1.0F, scale, reciprocal(scale))};
  }
  return {divide(e.amax, p.largest, p.reciprocal), divide(p.largest, e.amax, reciprocal(e.amax))};
}

// Any block. Not inlined: it is rare, and its divisions would take registers from the common case.
static __device__ __noinline__ Scale unusual_scale(Extremes e, float largest, bool signed_scale) {
  if (!(e.amax < __uint_as_float(0x7F800000u))) return {__uint_as_float(kNanF32), 0.0F};
  if (e.amax < 0x1p-120F) return {0.0F, 0.0F};
  if (signed_scale) {
    const float a = fmaxf(e.positive * 0.125F, __fdiv_rn(e.negative, 7.0F));
    const float b = fmaxf(e.negative * 0.125F, __fdiv_rn(e.positive, 7.0F));
    const float scale = a < b ? -a : b;
    return {scale, __frcp_rn(scale)};
  }
  return {__fdiv_rn(e.amax, largest), __fdiv_rn(largest, e.amax)};
}

// The larger of a and b of numerics' int4_full, a where it is smaller than b with its sign flipped: what -8 stands for,
// times 8.
__device__ inline float signed_extreme(float a, float b) { return a < b ? -a : b; }

static __device__ __noinline__ float unusual_signed_extreme(Extremes e) {
  return signed_extreme(fmaxf(e.positive * 0.125F, __fdiv_rn(e.negative, 7.0F)),
                        fmaxf(e.negative * 0.125F, __fdiv_rn(e.positive, 7.0F)));
}

// kWindow: the least power of two in the window that, times tau, reaches r = |extreme| / outer, with the extreme's
// sign. Tau is 9/8 or 1: the sum carries into the exponent if the mantissa is beyond it.
__device__ inline float window_scale(float extreme, float r, float tau) {
  const std::uint32_t beyond = tau > 1 ? 0x6FFFFFu : 0x7FFFFFu;
  constexpr std::uint32_t kLeast = 0x3B000000u;    // 2^-9
  constexpr std::uint32_t kLargest = 0x42000000u;  // 2^5
  const std::uint32_t power = (__float_as_uint(r) + beyond) & 0xFF800000u;
  const std::uint32_t clamped = min(max(power, kLeast), kLargest);
  return __uint_as_float(clamped | (extreme < 0 ? 0x80000000u : 0u));
}

// The range of int4_full.
__device__ inline float clip(float t) { return fminf(fmaxf(t, -8.0F), 7.0F); }

// 1 / x for a signed power of two.
__device__ inline float power_reciprocal(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  return __uint_as_float((0x7F000000u - (bits & 0x7FFFFFFFu)) | (bits & 0x80000000u));
}

// The second-level scale of kWindow and what is seen of the blocks on the way; of no meaning for other grids.
struct Window {
  float outer = 1;
  float inverse = 1;
  float amax = 0;
  std::uint32_t clipped = 0;
};

__device__ inline float outer_scale(float amax) { return amax < kLeastOuterAmax ? 0.0F : __fdiv_rn(amax, 224.0F); }

__device__ inline Window open_window(const Operand& p) {
  Window w;
  w.outer = outer_scale(p.tensor_amax_at != nullptr ? *p.tensor_amax_at : p.tensor_amax);
  w.inverse = w.outer == 0 ? 0.0F : __fdiv_rn(1.0F, w.outer);
  return w;
}

// What all threads have seen, to memory. All 32 lanes of a warp call it.
__device__ inline void close_window(const Operand& p, const Window& w) {
  if (p.amax != nullptr) {
    const std::uint32_t amax =
        __reduce_max_sync(kFullWarp, __float_as_uint(w.amax));  // of floats that are not negative
    if (threadIdx.x % 32 == 0) atomicMax(reinterpret_cast<std::uint32_t*>(p.amax), amax);
  }
  if (p.clipped != nullptr) {
    const std::uint32_t clipped = __reduce_add_sync(kFullWarp, w.clipped);
    if (threadIdx.x % 32 == 0 && clipped != 0) atomicAdd(p.clipped, clipped);
  }
}

// The scale of a block of kWindow. `counted`: whether the block is of the operand, and this lane its first.
template <bool kStochastic, Span kSpan>
__device__ inline Scale windowed_scale(float (&v)[kRun], const Extremes& e, const Operand& p, Window& w, bool counted) {
  const bool finite = e.amax < __uint_as_float(0x7F800000u);
  const float factor = kSpan == Span::kOneRun ? p.run_factor : 1.0F;
  const bool ordinary = e.amax > 0x1p-80F && e.amax < 0x1p80F && w.inverse > 0x1p-80F && w.inverse < 0x1p80F;
  constexpr float kSeventh = 1.0F / 7;
  const float extreme = ordinary ? signed_extreme(fmaxf(e.positive * 0.125F, divide(e.negative, 7.0F, kSeventh)),
                                                  fmaxf(e.negative * 0.125F, divide(e.positive, 7.0F, kSeventh)))
                                 : unusual_signed_extreme(e);
  const float r = fabsf(extreme) * w.inverse;
  const float scale = window_scale(extreme, r, p.tau);
  const bool clipped = r > 32 * p.tau;
  if (finite && counted) {
    w.amax = fmaxf(w.amax, e.amax);
    w.clipped += clipped ? 1 : 0;
  }
  // Nearest clips every value; stochastic rounding, with tau = 1, needs it in clipped blocks only.
  const bool within = !kStochastic || (p.tau == 1 && !clipped);
  if (ordinary && within) return {scale, power_reciprocal(scale) * w.inverse * factor};
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = clip(v[i] * factor * w.inverse * power_reciprocal(scale));
  return {finite ? scale : __uint_as_float(kNanF32), finite ? 1.0F : 0.0F};
}

// The scale of a block of the other grids, and run_factor applied: to the inverse where that cannot change a code (a
// power of two commutes with rounding, but for subnormal results, and those are far below the first boundary), else to
// the values.
template <Span kSpan>
__device__ inline Scale block_scale(float (&v)[kRun], const Extremes& e, const Operand& p) {
  if (e.amax > 0x1p-80F && e.amax < 0x1p80F) {
    Scale s = ordinary_scale(e, p);
    if constexpr (kSpan == Span::kOneRun) s.inverse *= p.run_factor;
    return s;
  }
  if constexpr (kSpan == Span::kOneRun) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] *= p.run_factor;
  }
  return unusual_scale(e, p.largest, p.signed_scale);
}

}  // namespace ufp4::cuda
