// From the extremes of a block to its scale.
#pragma once

#include "cuda/operand.h"
#include "cuda/transform.cuh"

namespace ufp4::cuda {

inline constexpr std::uint32_t kNanF32 = 0x7FC00000u;  // what the scalar reference writes

struct Scale {
  float scale;    // NaN for a block with a value that is not finite
  float inverse;  // what the values are multiplied with; 0 where all codes are 0
};

// The arithmetic below is for extremes in [2^-100, 2^90], where nothing under- or overflows.

// x / d, correctly rounded, for a d whose odd part has at most 18 bits (divides_exactly in operand.cpp).
__device__ inline float divide_by(float x, const Divisor& d) { return __fmaf_rn(x, d.reciprocal, x * d.rest); }

__device__ inline float seventh(float x) {
  constexpr float kRounded = 1.0F / 7;
  constexpr auto kRest = static_cast<float>(1.0 / 7 - static_cast<double>(kRounded));
  return divide_by(x, {kRounded, kRest});
}

// 1 / x, correctly rounded.
__device__ inline float reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return __fmaf_rn(r, __fmaf_rn(-x, r, 1.0F), r);
}

// d / x, correctly rounded, for d = 1 .. 7 times a power of two.
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
template <Policy kPolicy>
__device__ inline Scale ordinary_scale(const Extremes& e, float factor, const Operand& p) {
  if constexpr (kSignedScale<kPolicy>) {
    const SignedExtreme extreme = signed_extreme(e, factor);
    const float scale = extreme.negative ? -extreme.magnitude : extreme.magnitude;
    return {scale, reciprocal(scale)};
  } else {
    return {divide_by(e.amax, p.level), divide_level(p.largest, e.amax)};
  }
}

// Any block that is finite. Not inlined: it is rare, and its divisions would take registers from the common case.
template <Policy kPolicy>
static __device__ __noinline__ Scale unusual_scale(Extremes e, float factor, float largest) {
  e.amax *= fabsf(factor);
  if (e.amax < 0x1p-120F) return {0.0F, 0.0F};
  if constexpr (kSignedScale<kPolicy>) {
    const float scale = unusual_signed_extreme(e.positive, e.negative, factor);
    return {scale, __frcp_rn(scale)};
  } else {
    return {__fdiv_rn(e.amax, largest), __fdiv_rn(largest, e.amax)};
  }
}

// What the values and the extremes of a run lack (see transform).
template <Span kSpan>
__device__ inline float run_factor(const Operand& p) {
  return kSpan == Span::kLanes ? 1.0F : p.run_factor;
}

__device__ inline bool is_finite(const Extremes& e) { return e.amax < __uint_as_float(0x7F800000u); }

// The scale of a block of the policies with one FP32 scale, and run_factor applied: to the inverse where that cannot
// change a code (a power of two commutes with rounding, but for subnormal results, and those are far below the first
// boundary), else to the values. Those of a block that is not finite become 0.
template <Policy kPolicy, Span kSpan>
__device__ inline Scale block_scale(float (&v)[kRun], const Extremes& e, const Operand& p) {
  const float factor = run_factor<kSpan>(p);
  if (kPolicy != Policy::kTable && e.amax > 0x1p-80F && e.amax < 0x1p80F) {
    const float size = fabsf(factor);
    Scale s = ordinary_scale<kPolicy>({e.amax * size, e.positive * size, e.negative * size}, factor, p);
    s.inverse *= factor;
    return s;
  }
  const bool finite = is_finite(e);
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = finite ? v[i] * factor : 0.0F;
  return finite ? unusual_scale<kPolicy>(e, factor, p.largest) : Scale{__uint_as_float(kNanF32), 0.0F};
}

// The second-level scale of a block, and what a policy makes of it once. Where a block must take the long way, because
// something is near the ends of FP32, what its scale is compared through is NaN.
struct Outer {
  float scale = 1;
  float inverse = 1;  // kWindow, kInteger: 1 / scale with run_factor, or NaN; kByte.., kBetter: 1 / g
  float relative =
      1;           // kByte..: what brings the amax of a block to E4M3, with |run_factor|, or NaN; kBetter: g, or NaN
  float amax = 0;  // what it follows from
};

// What is seen of the blocks on the way.
struct Seen {
  float amax = 0;  // without run_factor
  std::uint32_t clipped = 0;
};

// NaN where the sign says that a block is not finite.
__device__ inline float outer_scale(float divisor, float least_amax, float amax) {
  if (__float_as_int(amax) < 0) return __uint_as_float(kNanF32);
  return amax < least_amax ? 0.0F : __fdiv_rn(amax, divisor);
}
__device__ inline float outer_inverse(float outer) { return outer == 0 ? 0.0F : __fdiv_rn(1.0F, outer); }

inline constexpr float kFloatMax = 3.402823466e38F;

// The g of numerics.
__device__ inline float encoding_scale(const Operand& p, float amax) {
  return fminf(__fdiv_rn(p.outer_divisor, amax), kFloatMax);
}

template <Policy kPolicy, bool kStochastic, Span kSpan>
__device__ inline Outer open_outer(const Operand& p, float amax) {
  Outer outer;
  outer.amax = amax;
  if constexpr (kPolicy == Policy::kWindow) {
    outer.scale = outer_scale(p.outer_divisor, p.least_amax, amax);
    const float inverse = outer_inverse(outer.scale);
    const bool ordinary = inverse > 0x1p-80F && inverse < 0x1p80F && (!kStochastic || p.tau == 1);
    outer.inverse = ordinary ? inverse * run_factor<kSpan>(p) : __uint_as_float(kNanF32);
  } else if constexpr (kPolicy == Policy::kInteger) {
    const float magnitude = fabsf(amax);
    const bool ordinary = magnitude > 0x1p-60F && magnitude < 0x1p60F;
    outer.scale = ordinary && __float_as_int(amax) >= 0 ? divide_by(magnitude, p.outer)
                                                        : outer_scale(p.outer_divisor, p.least_amax, amax);
    const float inverse = divide_level(p.outer_divisor, magnitude);
    outer.inverse = ordinary ? inverse * run_factor<kSpan>(p) : __uint_as_float(kNanF32);
  } else if constexpr (is_relative(kPolicy)) {
    if (p.outer_divisor == 0) return outer;
    outer.scale = outer_scale(p.outer_divisor, p.least_amax, amax);
    const float g = encoding_scale(p, amax);
    // kBetter: squares of what rounding changes neither reach infinity nor lose more than `doubt` allows.
    constexpr bool kSquares = kPolicy == Policy::kBetter;
    const bool ordinary = g > (kSquares ? 0x1p-50F : 0x1p-60F) && g < (kSquares ? 0x1p56F : 0x1p60F) && p.outer_exact;
    outer.inverse = __fdiv_rn(1.0F, g);
    float relative = g;
    if constexpr (kPolicy != Policy::kBetter) {
      if (!p.divided) relative *= p.level.reciprocal;
      relative *= fabsf(run_factor<kSpan>(p));
    }
    outer.relative = ordinary ? relative : __uint_as_float(kNanF32);
  }
  return outer;
}

// Where the amax of what shares the second-level scale of an element lies.
__device__ inline std::uint64_t outer_index(const Operand& p, std::uint32_t row, std::uint32_t column) {
  return std::uint64_t{row >> p.outer_shift} * p.outer_columns +
         min(column >> p.outer_column_shift, p.outer_columns - 1);
}

// Raises *to, which is not negative. It only grows: most threads find that others have seen as much, and need not wait
// for their turn.
__device__ inline void raise(float* to, float amax) {
  auto* largest = reinterpret_cast<std::uint32_t*>(to);
  const std::uint32_t bits = __float_as_uint(amax);
  if (bits > __ldcg(largest)) atomicMax(largest, bits);
}

// Raises the magnitude of *to, and gives it a sign where a block is not finite. As a number without a sign what has one
// is beyond all others, so that it is raised by hand, which is rare.
__device__ inline void raise_signed(float* to, float magnitude, bool finite) {
  auto* largest = reinterpret_cast<std::uint32_t*>(to);
  if (!finite) {
    atomicOr(largest, 0x80000000u);
    return;
  }
  const std::uint32_t bits = __float_as_uint(magnitude);
  if (bits <= (__ldcg(largest) & 0x7FFFFFFFu)) return;
  std::uint32_t seen = atomicMax(largest, bits);
  while (seen >= 0x80000000u && (seen & 0x7FFFFFFFu) < bits) {
    const std::uint32_t expected = seen;
    seen = atomicCAS(largest, expected, bits | 0x80000000u);
    if (seen == expected) return;
  }
}

// What all threads have seen, to memory. All 32 lanes of a warp call it.
template <Span kSpan>
__device__ inline void report(const Operand& p, const Seen& seen) {
  if (p.amax != nullptr && !(p.policy == Policy::kMeasure && p.outer_parts)) {
    const float own = seen.amax * fabsf(run_factor<kSpan>(p));
    const std::uint32_t amax = __reduce_max_sync(kFullWarp, __float_as_uint(own));  // of floats that are not negative
    if (threadIdx.x % 32 == 0) raise(p.amax, __uint_as_float(amax));
  }
  if (p.clipped != nullptr) {
    const std::uint32_t clipped = __reduce_add_sync(kFullWarp, seen.clipped);
    if (threadIdx.x % 32 == 0 && clipped != 0) atomicAdd(p.clipped, clipped);
  }
}

// kMeasure. `counted`: whether the block is of the operand, and this lane its first.
template <Span kSpan>
__device__ inline void measure(const Operand& p, const Extremes& e, Seen& seen, std::uint32_t row, std::uint32_t column,
                               bool counted) {
  if (!counted || !is_finite(e)) return;
  if (!p.outer_parts) {
    seen.amax = fmaxf(seen.amax, e.amax);
  } else {
    raise(p.amax + outer_index(p, row, column), e.amax * fabsf(run_factor<kSpan>(p)));
  }
}

// kMeasureSigned: what a block of ordinary size or any other asks for as its scale.
template <Span kSpan>
__device__ inline void measure_signed(const Operand& p, const Extremes& e, std::uint32_t row, std::uint32_t column,
                                      bool counted) {
  if (!counted) return;
  const float factor = run_factor<kSpan>(p);
  const float size = fabsf(factor);
  const bool ordinary = e.amax > 0x1p-80F && e.amax < 0x1p80F;
  const float magnitude = ordinary ? signed_extreme(e, factor).magnitude * size
                                   : fabsf(unusual_signed_extreme(e.positive, e.negative, factor));
  raise_signed(p.amax + outer_index(p, row, column), magnitude, is_finite(e));
}

// kWindow: the least power of two in the window that, times tau, reaches r. The sum carries into the exponent if the
// mantissa is beyond tau's.
__device__ inline std::uint32_t window_power(const Operand& p, float r) {
  return max((__float_as_uint(r) + p.round_up) & 0xFF800000u, p.least_power);
}

// The range of int4_full.
__device__ inline float clip(float t) { return fminf(fmaxf(t, -8.0F), 7.0F); }

// The range of levels that are symmetric.
__device__ inline float clip(float t, float largest) { return fminf(fmaxf(t, -largest), largest); }

// 1 / x for a signed power of two; the sign comes out of the subtraction as it is.
__device__ inline float power_reciprocal(float x) { return __uint_as_float(0x7F000000u - __float_as_uint(x)); }

// The long way of windowed_scale: any block. The values become what is rounded, clipped.
template <Span kSpan>
__device__ inline Scale unusual_windowed_scale(float (&v)[kRun], const Extremes& e, const Operand& p,
                                               const Outer& outer, Seen& seen, bool counted) {
  const float factor = run_factor<kSpan>(p);
  const float inverse = outer_inverse(outer.scale);
  const bool finite = is_finite(e);
  const float extreme = unusual_signed_extreme(e.positive, e.negative, factor);
  const float r = fabsf(extreme) * inverse;
  const std::uint32_t power = min(window_power(p, r), p.largest_power);
  const float scale = __uint_as_float(power | (extreme < 0 ? 0x80000000u : 0u));
  if (finite && counted) {
    seen.amax = fmaxf(seen.amax, e.amax);
    seen.clipped += r > p.largest_reach ? 1 : 0;
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = finite ? clip(v[i] * factor * inverse * power_reciprocal(scale)) : 0.0F;
  return {finite ? scale : __uint_as_float(kNanF32), 1.0F};
}

// The scale of a block of kWindow. `counted`: whether the block is of the operand, and this lane its first. Nearest
// clips what is rounded (see clip_pair); stochastic rounding with tau = 1 needs it in blocks beyond the window only.
template <Span kSpan>
__device__ inline Scale windowed_scale(float (&v)[kRun], const Extremes& e, const Operand& p, const Outer& outer,
                                       Seen& seen, bool counted) {
  const SignedExtreme extreme = signed_extreme(e, run_factor<kSpan>(p));
  const float r = extreme.magnitude * fabsf(outer.inverse);
  if (__float_as_uint(r) - p.least_reach <= p.reach_span) {  // within the window, and neither 0 nor NaN
    const std::uint32_t scale = window_power(p, r) | (extreme.negative ? 0x80000000u : 0u);
    seen.amax = fmaxf(seen.amax, e.amax);  // of the operand: runs beyond it are zeros or repeat one of it
    return {__uint_as_float(scale), power_reciprocal(__uint_as_float(scale)) * outer.inverse};
  }
  return unusual_windowed_scale<kSpan>(v, e, p, outer, seen, counted);
}

// The integer of numerics for a block whose extremes ask for r times the second-level scale.
template <bool kStochastic>
__device__ inline float multiple_of(const Operand& p, float r) {
  const float lowered =
      kStochastic ? r : __fsub_rn(r, fminf(kKernelIntegers.most_lowered, __fmul_rn(r, kKernelIntegers.lowered)));
  return fminf(fmaxf(ceilf(lowered), 1.0F), p.outer_divisor);
}

// Whether a block goes the short way: r is not beyond what the segment has, but for rounding; it is neither 0 nor NaN,
// and nothing is near the ends of FP32.
__device__ inline bool ordinary_multiple(const Operand& p, float r) {
  return r > 0x1p-15F && r <= p.outer_divisor * (1 + 0x1p-20F);
}

// The long way of integer_scale: any block. The values become what is rounded, clipped.
template <Span kSpan, bool kStochastic>
__device__ inline Scale unusual_integer_scale(float (&v)[kRun], const Extremes& e, const Operand& p,
                                              const Outer& outer) {
  const float factor = run_factor<kSpan>(p);
  const float magnitude = fabsf(outer.amax);
  const float extreme = unusual_signed_extreme(e.positive, e.negative, factor);
  const bool used = is_finite(e) && magnitude >= p.least_amax && fabsf(extreme) >= kKernelIntegers.least;
  const float inverse = used ? __fdiv_rn(p.outer_divisor, magnitude) : 0.0F;
  const float m = multiple_of<kStochastic>(p, fabsf(extreme) * inverse);
  const float sign = extreme < 0 ? -1.0F : 1.0F;
  const float multiplier = sign * __frcp_rn(m);
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = used ? clip(v[i] * factor * inverse * multiplier) : 0.0F;
  return {used ? sign * m : 0.0F, 1.0F};
}

// The scale of a block of kInteger, a whole number. The values are brought to multiples of the second-level scale,
// which rounds once, before the integer divides them.
template <Span kSpan, bool kStochastic>
__device__ inline Scale integer_scale(float (&v)[kRun], const Extremes& e, const Operand& p, const Outer& outer) {
  const SignedExtreme extreme = signed_extreme(e, run_factor<kSpan>(p));
  const float r = extreme.magnitude * fabsf(outer.inverse);
  if (!ordinary_multiple(p, r)) return unusual_integer_scale<kSpan, kStochastic>(v, e, p, outer);
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] *= outer.inverse;
  const float m = multiple_of<kStochastic>(p, r);
  const float inverse = reciprocal(m);
  return extreme.negative ? Scale{-m, -inverse} : Scale{m, inverse};
}

inline constexpr float kE4m3Largest = 448;
inline constexpr float kE4m3Least = 0x1p-6F;  // the least normal number: below, scales lose bits

// To the nearest E4M3 number, of 0 to 448: adding and subtracting 2^20 times the number's power of two leaves it three
// bits after the first.
__device__ inline float round_to_e4m3(float x) {
  const float power = __uint_as_float(max(__float_as_uint(x) & 0x7F800000u, __float_as_uint(kE4m3Least)));
  const float rounder = power * 0x1p20F;
  return __fsub_rn(__fadd_rn(x, rounder), rounder);
}

// Whether x is where E4M3 has all its bits; no NaN is.
__device__ inline bool in_e4m3_range(float x) {
  constexpr std::uint32_t kLeast = 0x3C800000u;    // kE4m3Least
  constexpr std::uint32_t kLargest = 0x43E00000u;  // kE4m3Largest
  return __float_as_uint(x) - kLeast <= kLargest - kLeast;
}

// 1 / (scale * (1 / g)), at most the largest float: what values are multiplied by, of any E4M3 scale.
__device__ inline float encode_multiplier(float scale, float g_inverse) {
  return fminf(__fdiv_rn(1.0F, __fmul_rn(scale, g_inverse)), kFloatMax);
}

// kByte..: the scale and what values are multiplied by, of any block that is finite. Not inlined: it is rare.
static __device__ __noinline__ Scale unusual_byte_scale(const Operand* p, float amax, float outer_amax) {
  if (amax == 0) return {0.0F, 0.0F};
  const float g = encoding_scale(*p, outer_amax);
  const float relative =
      p->divided ? __fmul_rn(__fdiv_rn(amax, p->largest), g) : __fmul_rn(amax, __fmul_rn(g, p->level.reciprocal));
  const float scale = round_to_e4m3(fminf(relative, kE4m3Largest));
  if (p->divided && scale == 0) return {0.0F, 0.0F};
  return {scale, encode_multiplier(scale, __fdiv_rn(1.0F, g))};
}

// What the long way of kByte.. and kPower.. leaves: values that are rounded as they are, clipped.
__device__ inline Scale scaled_and_clipped(float (&v)[kRun], bool finite, float factor, const Scale& s, float largest) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = finite ? clip(v[i] * factor * s.inverse, largest) : 0.0F;
  return {finite ? s.scale : __uint_as_float(kNanF32), 1.0F};
}

// The scale of a block of kByte.. . As in block_scale, and what the long way leaves is clipped.
template <Span kSpan>
__device__ inline Scale byte_scale(float (&v)[kRun], const Extremes& e, const Operand& p, const Outer& outer) {
  const float factor = run_factor<kSpan>(p);
  const float base = __fmul_rn(p.divided ? divide_by(e.amax, p.level) : e.amax, outer.relative);
  if (in_e4m3_range(base)) {
    const float scale = round_to_e4m3(base);
    return {scale, reciprocal(__fmul_rn(scale, outer.inverse)) * factor};
  }
  const bool finite = is_finite(e);
  const Scale s = unusual_byte_scale(&p, finite ? e.amax * fabsf(factor) : 0.0F, outer.amax);
  return scaled_and_clipped(v, finite, factor, s, p.largest);
}

// kPower..: the scale and what values are multiplied by, of any block that is finite. Not inlined: it is rare.
static __device__ __noinline__ Scale unusual_power_scale(float amax, std::uint32_t largest_exponent,
                                                         float least_divisor) {
  const int field = static_cast<int>(__float_as_uint(amax) >> 23) - 127;
  const int exponent = min(max(field - (static_cast<int>(largest_exponent) >> 23), -127), 127);
  const float scale =
      __uint_as_float(exponent == -127 ? 0x00400000u : static_cast<std::uint32_t>(exponent + 127) << 23);
  return {scale, __fdiv_rn(1.0F, fmaxf(scale, least_divisor))};
}

// The same for kPower.. : the exponent of amax less that of the largest level.
template <Span kSpan>
__device__ inline Scale power_scale(float (&v)[kRun], const Extremes& e, const Operand& p) {
  const float factor = run_factor<kSpan>(p);
  const float amax = e.amax * fabsf(factor);
  if (amax > 0x1p-80F && amax < 0x1p80F) {
    const std::uint32_t power = __float_as_uint(amax) & 0x7F800000u;
    const float scale = __uint_as_float(power - p.largest_exponent);
    return {scale, power_reciprocal(scale) * factor};
  }
  const bool finite = is_finite(e);
  const Scale s = unusual_power_scale(finite ? amax : 0.0F, p.largest_exponent, p.least_divisor);
  return scaled_and_clipped(v, finite, factor, s, p.largest);
}

}  // namespace ufp4::cuda
