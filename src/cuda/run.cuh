// One thread's run of 16 values to the indices of their levels, and those to codes or values. All 32 lanes of a warp
// must call quantize_run together.
#pragma once

#include "cuda/operand.h"
#include "cuda/random.cuh"
#include "cuda/scale.cuh"
#include "cuda/transform.cuh"

namespace ufp4::cuda {

// The values of the codes live one a lane, so that a lookup is a shuffle: exact for any table.
__device__ inline float values_of_lane(const float (&values)[16]) { return values[threadIdx.x % 16]; }

// What a thread keeps of an operand from run to run.
struct Running {
  float lane_value;
  Window window;
  StepStart step;
};

template <Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline Running begin(const Operand& p) {
  Running running{};
  if constexpr (kStochastic) running.step = step_start(p);
  if constexpr (kGrid == Grid::kWindow) {
    running.window = open_window<kStochastic, kSpan>(p);
  } else {
    running.lane_value = values_of_lane(p.values);
  }
  return running;
}

// Whether a kernel has anything to do for the operand.
template <Grid kGrid>
__device__ inline bool wanted(const Operand& p) {
  return kGrid != Grid::kWindow || p.only_if == nullptr || *p.only_if != 0;
}

template <Grid kGrid, Span kSpan>
__device__ inline void end(const Operand& p, const Running& running) {
  if constexpr (kGrid == Grid::kWindow) close_window<kSpan>(p, running.window);
}

// Whether this lane has the first run of its block.
template <Span kSpan>
__device__ inline bool first_of_block(const Operand& p) {
  return kSpan != Span::kLanes || (threadIdx.x & static_cast<unsigned>(p.lanes - 1)) == 0;
}

// A run after rounding: for each element a word that holds the index of its level (see round_to_index) or, of kFloat
// where only values are wanted, the level as a float; and the scale of the block.
struct RunIndices {
  std::uint32_t x[kRun];
  float scale;
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
template <Grid kGrid, bool kStochastic>
inline constexpr bool kLowHalf = !kStochastic || kGrid == Grid::kTable;

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
template <Grid kGrid, bool kStochastic>
__device__ inline float round_to_index(float signed_t, float anchor, float index_factor) {
  if constexpr (kGrid != Grid::kFloat) {
    return __fmaf_rn(signed_t, index_factor, anchor);
  } else {
    // The steps of e2m1 are 1/2 below 2, then 2^(e-1) in [2^e, 2^(e+1)): x = 2t, or t * 2^(1-e) + 2^e (e = 1, 2).
    constexpr std::uint32_t kTwice = kStochastic ? 0xFF7FFFFFu : 0x7F800000u;  // less the bits of 2^e: those of 2 / 2^e
    const bool far = fabsf(signed_t) >= 2.0F;
    const std::uint32_t power = __float_as_uint(signed_t) & 0xFF800000u;  // s * +-2^e
    const std::uint32_t magnitude = far ? power & 0x7FFFFFFFu : 0x3F800000u;
    const float offset = far ? __uint_as_float(power) : 0.0F;
    return __fmaf_rn(signed_t, __uint_as_float(kTwice - magnitude), kStochastic ? anchor - offset : anchor + offset);
  }
}

// kFloat: the level of t itself, by the same rule. With P = 2^max(e, 0), t in [2^e, 2^(e + 1)), the step is P / 2: an
// anchor of P has the unit that is wanted. `random` is 100 with the random bits (see above), unit 1/2.
template <bool kStochastic>
__device__ inline float round_to_level(float signed_t, float random) {
  const std::uint32_t exponent = __float_as_uint(signed_t) & 0x7F800000u;
  const float power = __uint_as_float(max(exponent, 0x3F800000u));
  if constexpr (kStochastic) {
    const float sum = __fmaf_rn(signed_t, -(1 - 0x1p-24F), random * power);
    return __fmaf_rn(power, -100.0F, __uint_as_float(__float_as_uint(sum) & 0xFFFF0000u));
  } else {
    return __fmaf_rn(power, -0x1.8p22F, __fmaf_rn(power, 0x1.8p22F, signed_t));
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

// The indices in x[i] and x[j], a half each.
template <bool kLow>
__device__ inline std::uint32_t pair_of(const std::uint32_t (&x)[kRun], int i, int j) {
  return __byte_perm(x[i], x[j], kLow ? 0x5410 : 0x7632);
}

// kWindow, nearest: both of a pair into -8 .. 7.
template <Output kOutput>
__device__ inline std::uint32_t clip_pair(std::uint32_t pair) {
  constexpr std::uint32_t kTwice = 0x00010001u;
  constexpr std::uint32_t kBase = kNearestBase<kOutput>;
  if constexpr (kBase == 0) return __vimin_s16x2_relu(pair, 15 * kTwice);
  return __vmaxs2(__vmins2(pair, (kBase + 15) * kTwice), kBase * kTwice);
}

// The indices of x[kFirst..kFirst + 8) as eight nibbles in two's complement.
template <Grid kGrid, bool kStochastic, Output kOutput, int kFirst>
__device__ inline std::uint32_t pack_nibbles(const std::uint32_t (&x)[kRun]) {
  constexpr bool kLow = kLowHalf<kGrid, kStochastic>;
  constexpr std::uint32_t kBase = kLow ? kNearestBase<kOutput> : kStochasticBase<kOutput>;
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    const std::uint32_t pair = pair_of<kLow>(x, kFirst + i, kFirst + i + 4);
    sum = sum * 16 + (kGrid == Grid::kWindow && !kStochastic ? clip_pair<kOutput>(pair) : pair);
  }
  return (sum - kBase * 0x11111111u) ^ 0x88888888u;  // of k + 8, which never carry, to those of k
}

// Eight nibbles in two's complement, none of them -8, to sign and magnitude.
__device__ inline std::uint32_t to_sign_magnitude(std::uint32_t x) {
  const std::uint32_t sign = (x >> 3) & 0x11111111u;
  return (x ^ (sign * 7u)) + sign;  // negative: 8 + the complement of the lower three bits + 1, which never carries
}

// -x, which the compiler is not told: it would negate every product instead.
__device__ inline float hidden_negative(float x) {
  float result;
  asm("neg.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The indices of v[kFirst..kFirst + 8). `row`, `column` of the run, offsets already added.
template <Grid kGrid, bool kStochastic, Span kSpan, Output kOutput, int kFirst>
__device__ inline void round8(const float (&v)[kRun], float inverse, const Operand& p, const StepStart& step,
                              const RunGroups& groups, std::uint32_t row, std::uint32_t column,
                              std::uint32_t (&x)[kRun]) {
  std::uint32_t words[4] = {};
  if constexpr (kStochastic) {
    const uint4 w = random_words<kSpan, kFirst>(p, step, groups, row, column);
    words[0] = w.x, words[1] = w.y, words[2] = w.z, words[3] = w.w;
  }
  const float minus_inverse = hidden_negative(inverse);
  constexpr bool kLevels = kGrid == Grid::kFloat && kOutput == Output::kBf16;
  constexpr std::uint32_t kAnchor = kLevels ? 0x42C8u : kStochasticBase<kOutput> + 8;  // 0x42C8: 100 as a BF16 number
  const auto round = [&](float signed_t, float anchor) {
    if constexpr (kLevels) return __float_as_uint(round_to_level<kStochastic>(signed_t, anchor));
    constexpr float kFactor = kStochastic ? -(1 - 0x1p-24F) * kStochasticUnit<kOutput> : 1.0F;
    const float factor = kGrid == Grid::kUniform ? p.index_factor : kFactor;
    return __float_as_uint(round_to_index<kGrid, kStochastic>(signed_t, anchor, factor));
  };
#pragma unroll
  for (int i = kFirst; i < kFirst + 8; i += 2) {
    std::uint32_t n = words[i % 8 / 2];
    if constexpr (kGrid == Grid::kTable) {
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

// Quantizes a run that starts at (row, column) of the operand and is of it if `valid`.
template <Grid kGrid, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline RunIndices quantize_run(float (&v)[kRun], const Operand& p, Running& running, const RunGroups& groups,
                                          std::uint32_t row, std::uint32_t column, bool valid) {
  const Extremes extremes = transform<kSignedScale<kGrid>, kSpan>(v, p, column);
  Scale s;
  if constexpr (kGrid == Grid::kWindow) {
    s = windowed_scale<kSpan>(v, extremes, p, running.window, valid && first_of_block<kSpan>(p));
  } else {
    s = block_scale<kGrid, kSpan>(v, extremes, p);
  }
  RunIndices result;
  result.scale = s.scale;
  row += p.row_offset;
  column += p.column_offset;
  round8<kGrid, kStochastic, kSpan, kOutput, 0>(v, s.inverse, p, running.step, groups, row, column, result.x);
  round8<kGrid, kStochastic, kSpan, kOutput, 8>(v, s.inverse, p, running.step, groups, row, column, result.x);
  return result;
}

// The codes of a run, the first in the lowest nibble of x.
template <Grid kGrid, bool kStochastic, Output kOutput>
__device__ inline uint2 codes_of(const RunIndices& run, const Operand& p) {
  const uint2 codes{pack_nibbles<kGrid, kStochastic, kOutput, 0>(run.x),
                    pack_nibbles<kGrid, kStochastic, kOutput, 8>(run.x)};
  if (kSignedScale<kGrid> || !p.sign_magnitude) return codes;
  return {to_sign_magnitude(codes.x), to_sign_magnitude(codes.y)};
}

// The index in x as a number; E4M3 values have a way of their own.
template <Grid kGrid, bool kStochastic>
__device__ inline float index_value(std::uint32_t x) {
  if constexpr (kLowHalf<kGrid, kStochastic>) {
    const float k = __uint_as_float(x) - kNearestAnchor<Output::kAny>;
    return kGrid == Grid::kWindow ? clip(k) : k;
  } else {
    return __uint_as_float(x & 0xFFFF0000u) - __uint_as_float((kStochasticBase<Output::kAny> + 8) << 16);
  }
}

}  // namespace ufp4::cuda
