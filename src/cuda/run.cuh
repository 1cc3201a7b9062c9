// The values of one thread's run, scaled, to the indices of their levels, and those to codes or values.
#pragma once

#include "cuda/operand.h"
#include "cuda/random.cuh"
#include "cuda/scale.cuh"
#include "cuda/transform.cuh"

namespace ufp4::cuda {

// The values of the codes live one a lane, those of the alternative (or the same again) in the upper half of a warp, so
// that a lookup is a shuffle: exact for any table.
__device__ inline float values_of_lane(const float (&values)[32]) { return values[threadIdx.x % 32]; }

// What a thread keeps of an operand from run to run.
struct Running {
  float lane_value;
  Outer outer;
  Seen seen;
  Start start;
};

template <Policy kPolicy, bool kStochastic, Span kSpan>
__device__ inline Running begin(const Operand& p) {
  Running running{};
  if constexpr (kStochastic) running.start = start_of(p);
  if constexpr (kPolicy == Policy::kWindow || is_relative(kPolicy)) {
    if (!p.outer_parts) {
      const float amax = p.outer_amax != nullptr ? *p.outer_amax : 0.0F;
      running.outer = open_outer<kPolicy, kStochastic, kSpan>(p, amax);
    }
  }
  if constexpr (!kClipped<kPolicy>) running.lane_value = values_of_lane(p.values);
  return running;
}

// Whether a kernel has anything to do for the operand.
template <Policy kPolicy>
__device__ inline bool wanted(const Operand& p) {
  return kPolicy != Policy::kWindow || p.only_if == nullptr || *p.only_if != 0;
}

template <Policy kPolicy, Span kSpan>
__device__ inline void end(const Operand& p, const Running& running) {
  if constexpr (kPolicy == Policy::kWindow || kPolicy == Policy::kMeasure) report<kSpan>(p, running.seen);
}

// Whether this lane has the first run of its block.
template <Span kSpan>
__device__ inline bool first_of_block(const Operand& p) {
  return kSpan == Span::kOneRun || (threadIdx.x & static_cast<unsigned>(p.lanes - 1)) == 0;
}

// A run after rounding: for each element a word that holds the index of its level (see round_to_index) or, of float
// levels where only values are wanted, the level itself, or else their codes (see gives_codes); the scale of the block;
// and of kBetter which of the two ways it takes, of kTwoLevel the exponents of four parts beside the scale, a byte
// each.
struct RunIndices {
  std::uint32_t x[kRun];
  float scale;
  std::uint32_t selector;
};

// Adding k in units of 1 to an anchor puts k into 16 bits of the sum, which count from a base for k = -8 on: from 0, or
// where E4M3 values are made of them from 0x6400, which are the integers from 1024 on as F16 numbers.
inline constexpr std::uint32_t kF16Base = 0x6400u;

// Nearest: the lower half; 1.5 * 2^23 has the unit 1.
template <Output kOutput>
inline constexpr std::uint32_t kNearestBase = kOutput == Output::kE4m3 ? kF16Base : 0u;
template <Output kOutput>
inline constexpr float kNearestAnchor = 12582912.0F + static_cast<float>(kNearestBase<kOutput> + 8);

// Stochastic: the upper half, and the unit is 2^16 of the last place; the lower half of the anchor is random. From 192
// on as BF16 numbers, or the F16 numbers above, unit 2^66.
template <Output kOutput>
inline constexpr std::uint32_t kStochasticBase = kOutput == Output::kE4m3 ? kF16Base : 0x4340u;
template <Output kOutput>
inline constexpr float kStochasticUnit = kOutput == Output::kE4m3 ? 0x1p66F : 1.0F;

// Whether the lower halves of the words hold the indices.
template <Policy kPolicy, bool kStochastic>
inline constexpr bool kLowHalf = !kStochastic || kPolicy == Policy::kTable;

// The bits of a float one half of which holds the index of the level of t; |t| is at most L, but for rounding.
//
// The index before rounding is x = t * factor + offset, exact as a real number. Nearest: the sum x + anchor rounds x to
// an integer, ties to even, and the even index is the one that numerics asks for.
//
// Stochastic: with T = 65536 |x|, n the random number and q the index below, numerics goes up if n + 0.5 < T - 65536 q.
// With R = ceil(T - 0.5) this is n < R - 65536 q, so the index is floor((R + 65535 - n) / 65536), and -floor(..) for
// negative t is floor((n - R) / 65536): n or its complement is put into the anchor's last bits, below its unit. R is
// T rounded to nearest with ties down. The sum rounds to nearest even, so factor holds 1 - 2^-24: the product, exact
// within the fused operation, then lies between |x| and the float below |x|, which turns a tie into a "below" and moves
// no other x across a tie.
//
// `t` is given as s t, s = -1 for stochastic rounding (see round8) and else 1: the factors have that sign.
template <Levels kLevels, bool kStochastic>
__device__ inline float round_to_index(float signed_t, float anchor, float index_factor, const LevelMap& map) {
  constexpr std::uint32_t kTwice = kStochastic ? 0xFF7FFFFFu : 0x7F800000u;  // less the bits of 2^e: those of 2 / 2^e
  if constexpr (kLevels == Levels::kFloat || kLevels == Levels::kEither) {
    // Far: x = t * 2^(1-e) + s * 2^e. The bits of 2 / 2^e are the complement of those of 2^e, and at most 2 / near. The
    // offset is t with all bits of 2^e but those of 2 and 4 taken away: s * 2^e if far, else next to nothing.
    const std::uint32_t bits = __float_as_uint(signed_t);
    const std::uint32_t complement = (~bits | map.uniform) & 0x7F800000u;
    const std::uint32_t factor = min(complement, 0x7F800000u - map.near) + (kTwice - 0x7F800000u);
    const float offset = __uint_as_float(bits & ~map.uniform & 0xC0800000u);
    return __fmaf_rn(signed_t, __uint_as_float(factor), kStochastic ? anchor - offset : anchor + offset);
  } else {
    return __fmaf_rn(signed_t, index_factor, anchor);
  }
}

// The level of t itself, by the same rule: a multiple of half of `power`, for which an anchor of `power` has the unit
// that is wanted. `random` is 100 with the random bits (see above), unit 1/2.
template <bool kStochastic>
__device__ inline float round_to_level(float signed_t, float power, float random) {
  if constexpr (kStochastic) {
    const float sum = __fmaf_rn(signed_t, -(1 - 0x1p-24F), random * power);
    return __fmaf_rn(power, -100.0F, __uint_as_float(__float_as_uint(sum) & 0xFFFF0000u));
  } else {
    return __fmaf_rn(power, -0x1.8p22F, __fmaf_rn(power, 0x1.8p22F, signed_t));
  }
}

// The power of two that is twice the step at t: near or, of float levels, 2^e if that is more, t in [2^e, 2^(e + 1)).
__device__ inline float power_of_level(float t, const LevelMap& map) {
  return __uint_as_float(max(__float_as_uint(t) & ~map.uniform & 0x7F800000u, map.near));
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

// Whether rounding gives the levels of a run in place of their indices.
template <Policy kPolicy, Output kOutput>
inline constexpr bool gives_levels =
    (levels_of(kPolicy) == Levels::kFloat || levels_of(kPolicy) == Levels::kEither) && kOutput == Output::kBf16;

// All ones in the lower half if t0 has its sign bit set, in the upper if t1 has.
__device__ inline std::uint32_t sign_masks(float t0, float t1) {
  std::uint32_t masks;  // a selector with its bit 3 set spreads the sign of a byte; __byte_perm hides that
  asm("prmt.b32 %0, %1, %2, 0xFFBB;" : "=r"(masks) : "r"(__float_as_uint(t0)), "r"(__float_as_uint(t1)));
  return masks;
}

// The indices in x[i] and x[j], a half each.
template <bool kLow>
__device__ inline std::uint32_t pair_of(const std::uint32_t (&x)[kRun], int i, int j) {
  return __byte_perm(x[i], x[j], kLow ? 0x5410 : 0x7632);
}

// kClipped, nearest: both of a pair into -8 .. 7.
template <Output kOutput>
__device__ inline std::uint32_t clip_pair(std::uint32_t pair) {
  constexpr std::uint32_t kTwice = 0x00010001u;
  constexpr std::uint32_t kBase = kNearestBase<kOutput>;
  if constexpr (kBase == 0) return __vimin_s16x2_relu(pair, 15 * kTwice);
  return __vmaxs2(__vmins2(pair, (kBase + 15) * kTwice), kBase * kTwice);
}

// kBounded: both of a pair, which count from kBase for -8, into -n .. n; `highest` has n in both halves.
template <std::uint32_t kBase>
__device__ inline std::uint32_t clip_indices(std::uint32_t pair, std::uint32_t highest) {
  constexpr std::uint32_t kZero = (kBase + 8) * 0x00010001u;
  return __vmaxs2(__vmins2(pair, kZero + highest), kZero - highest);
}

// The indices of x[kFirst..kFirst + 8) as nibbles in two's complement. `highest`: see clip_indices.
template <Policy kPolicy, bool kStochastic, Output kOutput, int kFirst>
__device__ inline std::uint32_t pack_nibbles(const std::uint32_t (&x)[kRun], std::uint32_t highest) {
  constexpr bool kLow = kLowHalf<kPolicy, kStochastic>;
  constexpr std::uint32_t kBase = kLow ? kNearestBase<kOutput> : kStochasticBase<kOutput>;
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    std::uint32_t pair = pair_of<kLow>(x, kFirst + i, kFirst + i + 4);
    if constexpr (kClipped<kPolicy> && !kStochastic) pair = clip_pair<kOutput>(pair);
    if constexpr (kBounded<kPolicy, kStochastic>) pair = clip_indices<kBase>(pair, highest);
    sum = sum * 16 + pair;
  }
  return (sum - kBase * 0x11111111u) ^ 0x88888888u;  // of k + 8, which never carry, to those of k
}

// Eight nibbles in two's complement, none of them -8, to sign and magnitude.
__device__ inline std::uint32_t to_sign_magnitude(std::uint32_t x) {
  const std::uint32_t sign = (x >> 3) & 0x11111111u;
  return (x ^ (sign * 7u)) + sign;  // negative: 8 + the complement of the lower three bits + 1, which never carries
}

// The other way, of codes without a negative zero. Not inlined: there is no such format among the library's.
static __device__ __noinline__ std::uint32_t to_twos_complement(std::uint32_t codes) {
  const std::uint32_t negative = codes >> 3 & 0x11111111u;
  return ((codes & 0x77777777u) ^ (negative * 15u)) + negative;
}

// -x, which the compiler is not told: it would negate every product instead.
__device__ inline float hidden_negative(float x) {
  float result;
  asm("neg.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Whether rounding gives codes at once, in the first two words of RunIndices::x.
template <Policy kPolicy, bool kStochastic, Output kOutput>
inline constexpr bool gives_codes =
    !kStochastic &&
    (kPolicy == Policy::kTwoLevel ? kOutput == Output::kPacked
                                  : (levels_of(kPolicy) == Levels::kFloat || levels_of(kPolicy) == Levels::kEither) &&
                                        !gives_levels<kPolicy, kOutput>);

// Eight codes by magnitude and sign: the magnitudes in the lower halves of x, and the signs of v[kFirst..kFirst + 8),
// turned where `turned` has its bits. There is no negative zero.
template <bool kClip, int kFirst>
__device__ inline std::uint32_t signed_nibbles(const std::uint32_t (&x)[8], const float (&v)[kRun],
                                               std::uint32_t turned, std::uint32_t highest) {
  std::uint32_t magnitudes = 0;
  std::uint32_t signs = turned & 0x88888888u;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    std::uint32_t pair = __byte_perm(x[i], x[i + 4], 0x5410);
    if constexpr (kClip) pair = __vminu2(pair, highest);
    magnitudes = magnitudes * 16 + pair;
    signs ^= sign_masks(v[kFirst + i], v[kFirst + i + 4]) & 0x00080008u << (4 * i);
  }
  return magnitudes | (signs & (magnitudes + 0x77777777u));
}

// All ones if x has its sign bit set.
__device__ inline std::uint32_t sign_mask(float x) { return static_cast<std::uint32_t>(__float_as_int(x) >> 31); }

// The nearest codes of v[kFirst..kFirst + 8) by magnitude and sign. With float levels the index before rounding, piece
// by piece 2t, t + 2 and t / 2 + 4, is the least of the three; each is rounded within its sum with the anchor, ties to
// even, and the least of the sums is the anchor with the index. With uniform levels it is t / d alone, and the others
// are infinite. Where t is an exact product it is made within the sums.
template <Policy kPolicy, int kFirst>
__device__ inline std::uint32_t nearest_codes(const float (&v)[kRun], float inverse, const Operand& p,
                                              const LevelMap& map) {
  constexpr float kAnchor = 0x1.8p23F;
  const float size = fabsf(inverse);
  const float first = __uint_as_float(0x7F800000u - map.near);
  const float second = __uint_as_float(__float_as_uint(kAnchor + 2) | (map.uniform & 0x7F800000u));
  const float third = __uint_as_float(__float_as_uint(kAnchor + 4) | (map.uniform & 0x7F800000u));
  std::uint32_t x[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float magnitude = fabsf(v[kFirst + i]);
    const float t = is_power(kPolicy) ? magnitude : __fmul_rn(magnitude, size);
    const float by = is_power(kPolicy) ? size : 1.0F;
    x[i] = min(min(__float_as_uint(__fmaf_rn(t, by * first, kAnchor)), __float_as_uint(__fmaf_rn(t, by, second))),
               __float_as_uint(__fmaf_rn(t, by * 0.5F, third)));
  }
  return signed_nibbles<kBounded<kPolicy, false>, kFirst>(x, v, sign_mask(inverse), p.highest);
}

// The indices of v[kFirst..kFirst + 8), or the levels; w: the random bits of the group.
template <Policy kPolicy, bool kStochastic, Output kOutput, int kFirst>
__device__ inline void round_each(const float (&v)[kRun], float inverse, const Operand& p, const LevelMap& map,
                                  const uint4& w, std::uint32_t (&x)[kRun]) {
  const std::uint32_t words[4] = {w.x, w.y, w.z, w.w};
  const float minus_inverse = hidden_negative(inverse);
  constexpr Levels kLevels = levels_of(kPolicy);
  constexpr bool kValues = gives_levels<kPolicy, kOutput>;
  constexpr std::uint32_t kAnchor = kValues ? 0x42C8u : kStochasticBase<kOutput> + 8;  // 0x42C8: 100 as a BF16 number
  const auto round = [&](float signed_t, float anchor) {
    if constexpr (kValues) {
      return __float_as_uint(round_to_level<kStochastic>(signed_t, power_of_level(signed_t, map), anchor));
    }
    constexpr float kFactor = kStochastic ? -(1 - 0x1p-24F) * kStochasticUnit<kOutput> : 1.0F;
    const float factor = kLevels == Levels::kUniform ? p.index_factor : kFactor;
    return __float_as_uint(round_to_index<kLevels, kStochastic>(signed_t, anchor, factor, map));
  };
#pragma unroll
  for (int i = kFirst; i < kFirst + 8; i += 2) {
    std::uint32_t n = words[i % 8 / 2];
    if constexpr (kPolicy == Policy::kTable) {
      x[i] = __float_as_uint(kNearestAnchor<kOutput>) + table_index<kStochastic>(v[i] * inverse, p, n & 0xFFFFu);
      x[i + 1] = __float_as_uint(kNearestAnchor<kOutput>) + table_index<kStochastic>(v[i + 1] * inverse, p, n >> 16);
    } else if constexpr (kStochastic) {
      // Of -t: it has the sign bit of what needs the complement.
      const float minus0 = v[i] * minus_inverse;
      const float minus1 = v[i + 1] * minus_inverse;
      n ^= sign_masks(minus0, minus1);
      x[i] = round(minus0, __uint_as_float(__byte_perm(n, kAnchor, 0x5410)));
      x[i + 1] = round(minus1, __uint_as_float(__byte_perm(n, kAnchor, 0x5432)));
    } else {
      x[i] = round(v[i] * inverse, kNearestAnchor<kOutput>);
      x[i + 1] = round(v[i + 1] * inverse, kNearestAnchor<kOutput>);
    }
  }
}

// The indices of v[kFirst..kFirst + 8), their levels or their codes.
template <Policy kPolicy, bool kStochastic, Output kOutput, int kFirst>
__device__ inline void round8(const float (&v)[kRun], float inverse, const Operand& p, const LevelMap& map,
                              const uint4& w, std::uint32_t (&x)[kRun]) {
  if constexpr (gives_codes<kPolicy, kStochastic, kOutput>) {
    x[kFirst / 8] = nearest_codes<kPolicy, kFirst>(v, inverse, p, map);
  } else {
    round_each<kPolicy, kStochastic, kOutput, kFirst>(v, inverse, p, map, w, x);
  }
}

// The codes of a run, the first in the lowest nibble of x.
template <Policy kPolicy, bool kStochastic, Output kOutput>
__device__ inline uint2 codes_of(const RunIndices& run, const Operand& p) {
  if constexpr (gives_codes<kPolicy, kStochastic, kOutput>) {
    if (p.sign_magnitude) return {run.x[0], run.x[1]};
    return {to_twos_complement(run.x[0]), to_twos_complement(run.x[1])};
  } else {
    std::uint32_t highest = p.highest;
    if constexpr (kPolicy == Policy::kBetter) highest = p.choices[run.selector == 0 ? 0 : 1].highest;
    const uint2 codes{pack_nibbles<kPolicy, kStochastic, kOutput, 0>(run.x, highest),
                      pack_nibbles<kPolicy, kStochastic, kOutput, 8>(run.x, highest)};
    if (kSignedScale<kPolicy> || !p.sign_magnitude) return codes;
    return {to_sign_magnitude(codes.x), to_sign_magnitude(codes.y)};
  }
}

// The index in x as a number; E4M3 values have a way of their own.
template <Policy kPolicy, bool kStochastic>
__device__ inline float index_value(std::uint32_t x) {
  if constexpr (kLowHalf<kPolicy, kStochastic>) {
    const float k = __uint_as_float(x) - kNearestAnchor<Output::kAny>;
    return kClipped<kPolicy> ? clip(k) : k;
  } else {
    return __uint_as_float(x & 0xFFFF0000u) - __uint_as_float((kStochasticBase<Output::kAny> + 8) << 16);
  }
}

}  // namespace ufp4::cuda
