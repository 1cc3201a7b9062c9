// The arithmetic of one thread: transform, scale, codes and random bits of a run of 16 values in registers. Runs that
// share a block or a transform lie in adjacent lanes. All 32 lanes of a warp must call these functions together.
#pragma once

#include "cuda/operand.h"
#include "cuda/random.cuh"

namespace ufp4::cuda {

inline constexpr unsigned kFullWarp = 0xFFFFFFFFu;
inline constexpr std::uint32_t kNanF32 = 0x7FC00000u;  // what the scalar reference writes

// The codes of 16 elements, the first in the lowest nibble of x, and their block's scale.
struct RunCodes {
  uint2 codes;
  float scale;
};

// fmaxf loses a NaN; this keeps it.
__device__ inline float max_nan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
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

// The transform without its factor 1/sqrt(n); with kSigned the signs have been flipped already. `column` is the run's
// first column in the operand.
template <Span kSpan, bool kSigned>
__device__ inline void hadamard_sums(float (&v)[kRun], const Operand& p, std::uint32_t column) {
  if constexpr (kSpan == Span::kLanes) {
    const std::uint32_t position = column & static_cast<std::uint32_t>(p.hadamard - 1);
    const std::uint32_t signs = p.signs[position >> 5] >> (position & 16u);
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = __uint_as_float(__float_as_uint(v[i]) ^ ((signs << (31 - i)) & 0x80000000u));
  } else if constexpr (!kSigned) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = __uint_as_float(__float_as_uint(v[i]) ^ p.sign_bits[i]);
  }
  butterfly<1>(v);
  butterfly<2>(v);
  butterfly<4>(v);
  butterfly<8>(v);
  if constexpr (kSpan == Span::kLanes) {
    for (int lanes = 1; lanes * kRun < p.hadamard; lanes *= 2) {
      const bool upper = (threadIdx.x & static_cast<unsigned>(lanes)) != 0;
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        const float other = __shfl_xor_sync(kFullWarp, v[i], lanes);
        v[i] = upper ? other - v[i] : v[i] + other;
      }
    }
  }
}

// The larger of `x` over the lanes of a block; a NaN wins.
__device__ inline float block_max(float x, int lanes) {
  for (int distance = 1; distance < lanes; distance *= 2) x = max_nan(x, __shfl_xor_sync(kFullWarp, x, distance));
  return x;
}

// Maximum over a run of what `value` makes of each index, as a tree.
template <typename Value>
__device__ inline float run_max(Value value) {
  float m[kRun / 2];
#pragma unroll
  for (int i = 0; i < kRun / 2; ++i) m[i] = max_nan(value(2 * i), value(2 * i + 1));
#pragma unroll
  for (int n = kRun / 4; n > 0; n /= 2) {
#pragma unroll
    for (int i = 0; i < n; ++i) m[i] = max_nan(m[i], m[i + n]);
  }
  return m[0];
}

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

// The extremes of a block.
struct Extremes {
  float amax, positive, negative;  // the latter two only for signed scales
};

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

// The scale of the run's block. The factor of a transform is applied to `v`, or, where that cannot change a code, to
// the inverse: a power of two commutes with rounding, but for subnormal results, and those are far below the first
// boundary.
template <Span kSpan>
__device__ inline Scale block_scale(float (&v)[kRun], const Operand& p) {
  if constexpr (kSpan == Span::kLanes) {
    if (p.hadamard != 0) {
#pragma unroll
      for (int i = 0; i < kRun; ++i) v[i] *= p.hadamard_scale;
    }
  }
  Extremes e{};
  if (p.signed_scale) {
    e.positive = max_nan(0.0F, run_max([&](int i) { return v[i]; }));
    e.negative = max_nan(0.0F, run_max([&](int i) { return -v[i]; }));
    if constexpr (kSpan == Span::kLanes) e.positive = block_max(e.positive, p.lanes);
    if constexpr (kSpan == Span::kLanes) e.negative = block_max(e.negative, p.lanes);
    e.amax = max_nan(e.positive, e.negative);
  } else {
    e.amax = run_max([&](int i) { return fabsf(v[i]); });
    if constexpr (kSpan == Span::kLanes) e.amax = block_max(e.amax, p.lanes);
  }
  constexpr float kFactor = kSpan == Span::kHadamard ? 0.25F : 1.0F;
  const bool ordinary = e.amax > 0x1p-80F && e.amax < 0x1p80F;
  if constexpr (kSpan == Span::kHadamard) {  // the largest rounded is the largest of the rounded
    e.amax *= kFactor, e.positive *= kFactor, e.negative *= kFactor;
  }
  if (ordinary) {
    Scale s = ordinary_scale(e, p);
    s.inverse *= kFactor;
    return s;
  }
  if constexpr (kSpan == Span::kHadamard) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] *= kFactor;
  }
  return unusual_scale(e, p.largest, p.signed_scale);
}

// A float whose low bits hold an integer: anchor + k for a small k, in units of the anchor's last place.
inline constexpr float kNearestAnchor = 12582912.0F;             // 1.5 * 2^23: unit 1
inline constexpr std::uint32_t kStochasticAnchor = 0x00004340u;  // upper half of 192.0F: unit 2^-16

// The bits of a float that hold, as a nibble of the byte kByte (see below), the index of the level of t in two's
// complement; |t| is at most L, but for rounding.
//
// The index before rounding is x = t * factor + offset, exact as a real number. Nearest: the sum x + anchor rounds x to
// an integer, ties to even, and the even index is the one that numerics asks for.
//
// Stochastic: with T = 65536 |x|, n the random number and q the index below, numerics goes up if n + 0.5 < T - 65536 q.
// With R = ceil(T - 0.5) this is n < R - 65536 q, so the index is floor((R + 65535 - n) / 65536), and -floor(..) for
// negative t is floor((n - R) / 65536): n or its complement is put into the anchor's last bits, below its unit 1. R is
// T rounded to nearest with ties down. The sum rounds to nearest even, so factor holds 1 - 2^-24: the product, exact
// within the fused operation, then lies between |x| and the float below |x|, which turns a tie into a "below" and moves
// no other x across a tie.
template <Grid kGrid>
__device__ inline float round_to_index(float t, float anchor, float index_factor, std::uint32_t far_factor) {
  if constexpr (kGrid == Grid::kUniform) {
    return __fmaf_rn(t, index_factor, anchor);
  } else {
    // The steps of e2m1 are 1/2 below 2, then 2^(e-1) in [2^e, 2^(e+1)): x = 2t, or t * 2^(1-e) + 2^e (e = 1, 2).
    const bool far = fabsf(t) >= 2.0F;
    const std::uint32_t power = __float_as_uint(t) & 0xFF800000u;  // +-2^e
    const std::uint32_t magnitude = far ? power & 0x7FFFFFFFu : 0x3F800000u;
    return __fmaf_rn(t, __uint_as_float(far_factor - magnitude), anchor + (far ? __uint_as_float(power) : 0.0F));
  }
}

// kTable: the index in two's complement by comparison, as the reference does it.
template <bool kStochastic>
__device__ inline std::uint32_t table_index(float t, const Operand& p, std::uint32_t n16) {
  const float magnitude = fminf(fabsf(t), p.largest);
  int index = 0;
  if constexpr (kStochastic) {
    float low = 0;
    float high = p.levels[1];
#pragma unroll
    for (int i = 1; i < 8; ++i) {
      if (i < p.level_count && p.levels[i] <= magnitude) {
        index = i;
        low = p.levels[i];
        high = i + 1 < p.level_count ? p.levels[i + 1] : low;
      }
    }
    const float u = (static_cast<float>(n16) + 0.5F) * 0x1p-16F;
    if (low < high && u < __fdiv_rn(magnitude - low, high - low)) ++index;
  } else {
#pragma unroll
    for (int i = 0; i < 7; ++i) index += i + 1 < p.level_count && magnitude > p.boundaries[i] ? 1 : 0;
  }
  return static_cast<std::uint32_t>(t < 0 ? -index : index);
}

// All ones in the lower half if t0 has its sign bit set, in the upper if t1 has.
__device__ inline std::uint32_t sign_masks(float t0, float t1) {
  std::uint32_t masks;  // a selector with its bit 3 set spreads the sign of a byte; __byte_perm hides that
  asm("prmt.b32 %0, %1, %2, 0xFFBB;" : "=r"(masks) : "r"(__float_as_uint(t0)), "r"(__float_as_uint(t1)));
  return masks;
}

// Eight bytes with a nibble each (byte kByte of x[0..7]) to one word.
template <int kByte>
__device__ inline std::uint32_t pack_nibbles(const std::uint32_t (&x)[8]) {
  constexpr unsigned kPair = kByte | ((4 + kByte) << 4);
  const std::uint32_t even = __byte_perm(__byte_perm(x[0], x[2], kPair), __byte_perm(x[4], x[6], kPair), 0x5410);
  const std::uint32_t odd = __byte_perm(__byte_perm(x[1], x[3], kPair), __byte_perm(x[5], x[7], kPair), 0x5410);
  return (even & 0x0F0F0F0Fu) | ((odd << 4) & 0xF0F0F0F0u);
}

// Eight nibbles in two's complement, none of them -8, to sign and magnitude.
__device__ inline std::uint32_t to_sign_magnitude(std::uint32_t x) {
  const std::uint32_t sign = (x >> 3) & 0x11111111u;
  return (x ^ (sign * 7u)) + sign;  // negative: 8 + the complement of the lower three bits + 1, which never carries
}

// The codes of v[kFirst..kFirst + 8). `row`, `column` of the first, offsets already added.
template <Grid kGrid, bool kStochastic, int kFirst>
__device__ inline std::uint32_t encode8(const float (&v)[kRun], float inverse, const Operand& p, std::uint32_t row,
                                        std::uint32_t column) {
  std::uint32_t words[4] = {};
  if constexpr (kStochastic) {
    const uint4 w = random_words(p, row, column + kFirst);
    words[0] = w.x, words[1] = w.y, words[2] = w.z, words[3] = w.w;
  }
  constexpr std::uint32_t kFarFactor = kStochastic ? 0x7F7FFFFFu : 0x7F800000u;  // 2 / 2^e: far_factor - bits of 2^e
  std::uint32_t x[8];
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    const float t0 = v[kFirst + i] * inverse;
    const float t1 = v[kFirst + i + 1] * inverse;
    std::uint32_t n = words[i / 2];
    if constexpr (kGrid == Grid::kTable) {
      x[i] = table_index<kStochastic>(t0, p, n & 0xFFFFu);
      x[i + 1] = table_index<kStochastic>(t1, p, n >> 16);
    } else if constexpr (kStochastic) {
      n ^= ~sign_masks(t0, t1);  // the complement where t is not negative
      const float anchor0 = __uint_as_float(__byte_perm(n, kStochasticAnchor, 0x5410));
      const float anchor1 = __uint_as_float(__byte_perm(n, kStochasticAnchor, 0x5432));
      x[i] = __float_as_uint(round_to_index<kGrid>(t0, anchor0, p.index_factor, kFarFactor));
      x[i + 1] = __float_as_uint(round_to_index<kGrid>(t1, anchor1, p.index_factor, kFarFactor));
    } else {
      x[i] = __float_as_uint(round_to_index<kGrid>(t0, kNearestAnchor, p.index_factor, kFarFactor));
      x[i + 1] = __float_as_uint(round_to_index<kGrid>(t1, kNearestAnchor, p.index_factor, kFarFactor));
    }
  }
  const std::uint32_t packed = pack_nibbles < kStochastic && kGrid != Grid::kTable ? 2 : 0 > (x);
  return p.sign_magnitude ? to_sign_magnitude(packed) : packed;
}

// Quantizes a run that starts at (row, column) of the operand. kSigned: the signs of the transform are in `v` already.
template <Grid kGrid, bool kStochastic, Span kSpan, bool kSigned = false>
__device__ inline RunCodes quantize_run(float (&v)[kRun], const Operand& p, std::uint32_t row, std::uint32_t column) {
  if constexpr (kSpan == Span::kHadamard) hadamard_sums<kSpan, kSigned>(v, p, column);
  if constexpr (kSpan == Span::kLanes) {
    if (p.hadamard != 0) hadamard_sums<kSpan, kSigned>(v, p, column);
  }
  const Scale s = block_scale<kSpan>(v, p);
  row += p.row_offset;
  column += p.column_offset;
  const std::uint32_t low = encode8<kGrid, kStochastic, 0>(v, s.inverse, p, row, column);
  const std::uint32_t high = encode8<kGrid, kStochastic, 8>(v, s.inverse, p, row, column);
  return {isnan(s.scale) ? make_uint2(0, 0) : make_uint2(low, high), s.scale};
}

}  // namespace ufp4::cuda
