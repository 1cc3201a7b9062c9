// One thread's run of 16 values, quantized: transform, scale and rounding, for every policy. All 32 lanes of a warp
// call these functions together.
#pragma once

#include <cuda_bf16.h>

#include "cuda/operand.h"
#include "cuda/random.cuh"
#include "cuda/run.cuh"
#include "cuda/scale.cuh"
#include "cuda/transform.cuh"

namespace ufp4::cuda {

// The random bits of a run: those of its first and of its second group.
struct RunWords {
  uint4 first, second;
};

// Half of a pair of random numbers, and that of the sign (see round_to_index), in the last bits of 100.
__device__ inline float random_hundred(std::uint32_t n, int half) {
  return __uint_as_float(__byte_perm(n, 0x42C8u, half == 0 ? 0x5410 : 0x5432));
}

// One way of kBetter for the block at hand: its scale, and what values are multiplied by.
struct Way {
  float scale, inverse;
};

struct Better {
  Way way;
  std::uint32_t selector;
};

// What the long way of kBetter works on, in memory: it is rare, and no registers are to be reserved for it.
struct RareRun {
  float x[kRun];
  std::uint32_t words[kRun / 2];  // of random bits
};

// Of one element that goes this way, as numerics has it: value * amax / divisor - x, squared.
template <bool kStochastic>
__device__ inline float squared_difference(const RareRun& run, int i, const Way& way, const Choice& choice,
                                           const Operand& p, float amax) {
  const float t = clip(__fmul_rn(run.x[i], way.inverse), choice.largest);
  const float power = power_of_level(t, choice.map);
  float level;
  if constexpr (kStochastic) {
    const std::uint32_t pair = run.words[i / 2] ^ sign_masks(-t, -t);
    level = clip(round_to_level<true>(-t, power, random_hundred(pair, i % 2)), choice.largest);
  } else {
    level = round_to_level<false>(t, power, 0);
  }
  const float value = __fmul_rn(__fmul_rn(level, way.scale), amax);
  const float d = __fsub_rn(__fdiv_rn(value, p.outer_divisor), run.x[i]);
  return __fmul_rn(d, d);
}

// The sum of the squared errors of a block, in the order of its elements.
template <Span kSpan, bool kStochastic>
__device__ inline float exact_error(const RareRun& run, const Way& way, const Choice& choice, const Operand& p,
                                    float amax) {
  const int own = kSpan == Span::kOneRun ? 0 : static_cast<int>(threadIdx.x) & (p.lanes - 1);
  const int lanes = kSpan == Span::kOneRun ? 1 : p.lanes;
  float sum = 0;
#pragma unroll 1
  for (int lane = 0; lane < lanes; ++lane) {
    float from_before = sum;
    if (kSpan != Span::kOneRun && lane > 0) from_before = __shfl_up_sync(kFullWarp, sum, 1);
    if (own != lane) continue;
    sum = from_before;
#pragma unroll 1
    for (int i = 0; i < kRun; ++i) {
      sum = __fadd_rn(sum, squared_difference<kStochastic>(run, i, way, choice, p, amax));
    }
  }
  if constexpr (kSpan != Span::kOneRun) {
    sum = __shfl_sync(kFullWarp, sum, static_cast<int>(threadIdx.x) | (lanes - 1));
  }
  return sum;
}

// The long way of kBetter, of any block: the first way where the errors are equal. The values become what is rounded,
// clipped. Not inlined: it is rare.
template <Span kSpan, bool kStochastic>
static __device__ __noinline__ Better unusual_better(RareRun* run, const Operand* p, float block_amax,
                                                     float outer_amax) {
  const bool finite = block_amax < __uint_as_float(0x7F800000u);
  const bool zero = block_amax == 0 || !finite;
  const float g = encoding_scale(*p, outer_amax);
  Way ways[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Choice& choice = p->choices[i];
    const float base = __fmul_rn(__fmul_rn(__fdiv_rn(block_amax, choice.base_divisor), g), choice.base_factor);
    const float scale = zero ? 0.0F : round_to_e4m3(fminf(base, kE4m3Largest));
    ways[i] = {scale, zero ? 0.0F : encode_multiplier(scale, __fdiv_rn(1.0F, g))};
  }
#pragma unroll 1
  for (int i = 0; i < kRun; ++i) run->x[i] = finite ? run->x[i] : 0.0F;
  const float first = exact_error<kSpan, kStochastic>(*run, ways[0], p->choices[0], *p, outer_amax);
  const float second = exact_error<kSpan, kStochastic>(*run, ways[1], p->choices[1], *p, outer_amax);
  Better better = second < first ? Better{ways[1], 1u} : Better{ways[0], 0u};
  if (zero) better = {{finite ? 0.0F : __uint_as_float(kNanF32), 0.0F}, 0u};
  const float largest = p->choices[better.selector].largest;
#pragma unroll 1
  for (int i = 0; i < kRun; ++i) run->x[i] = clip(run->x[i] * better.way.inverse, largest);
  better.way.inverse = 1;
  return better;
}

// What rounding changes in a run that goes either way: sums of squares, in steps of the scales. By magnitudes, which a
// stochastic result does not depend on: in place of a sign that needs the complement of the random bits, all take it.
template <bool kStochastic>
__device__ inline void errors_of(const float (&v)[kRun], const Way (&ways)[2], const Operand& p, const RunWords& words,
                                 float (&sums)[2]) {
  const std::uint32_t n[8] = {words.first.x,  words.first.y,  words.first.z,  words.first.w,
                              words.second.x, words.second.y, words.second.z, words.second.w};
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const float random = kStochastic ? random_hundred(~n[i / 2], i % 2) : 0.0F;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const Choice& choice = p.choices[k];
      const float t = __fmul_rn(fabsf(v[i]), fabsf(ways[k].inverse));
      float level = round_to_level<kStochastic>(kStochastic ? -t : t, power_of_level(t, choice.map), random);
      if constexpr (kStochastic) level = fminf(level, choice.largest);
      const float d = level - t;
      sums[k] = __fmaf_rn(d, d, sums[k]);
    }
  }
}

// kBetter: the way that a block goes. What is left of it is compared by sums that take few operations; where these are
// too near to each other to tell, by those of numerics, as where the block is not of ordinary size.
template <Span kSpan, bool kStochastic>
__device__ inline Better choose_way(float (&v)[kRun], const Extremes& e, const Operand& p, const Outer& outer,
                                    const RunWords& words) {
  const float factor = run_factor<kSpan>(p);
  const float amax = e.amax * fabsf(factor);
  bool plain = true;
  Way ways[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Choice& choice = p.choices[i];
    const float base = __fmul_rn(__fmul_rn(divide_by(amax, choice.base), outer.relative), choice.base_factor);
    plain = plain && in_e4m3_range(base);
    const float scale = round_to_e4m3(base);
    ways[i] = {scale, reciprocal(__fmul_rn(scale, outer.inverse)) * factor};
  }
  float errors[2] = {0, 0};
  errors_of<kStochastic>(v, ways, p, words, errors);
  float doubt = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if constexpr (kSpan != Span::kOneRun) errors[i] = block_sum(errors[i], p.lanes);
    const float square = ways[i].scale * ways[i].scale;
    errors[i] *= square;
    doubt += errors[i] + square;
  }
  bool clear = plain && fabsf(errors[1] - errors[0]) > doubt * p.doubt;
  if constexpr (kSpan != Span::kOneRun) clear = __all_sync(kFullWarp, clear);  // the lanes of a block sum together
  if (clear) {
    const bool second = errors[1] < errors[0];
    return {second ? ways[1] : ways[0], second ? 1u : 0u};
  }
  RareRun run{{},
              {words.first.x, words.first.y, words.first.z, words.first.w, words.second.x, words.second.y,
               words.second.z, words.second.w}};
#pragma unroll
  for (int i = 0; i < kRun; ++i) run.x[i] = v[i] * factor;
  const Better better = unusual_better<kSpan, kStochastic>(&run, &p, amax, outer.amax);
#pragma unroll
  for (int i = 0; i < kRun; ++i) v[i] = run.x[i];
  return better;
}

__device__ inline float rounded_to_bf16(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }

// kTwoLevel: the scale of a block and the exponents of its parts. The values become what round8 takes with an inverse
// of 1, or the codes are made. Their product t with the multiplier is not exact in FP32. To nearest, halves go up: t is
// rounded down, half a step is added, and the sum is rounded down to a level: within a sum that has the index in its
// last bits. Each of these keeps the order of t and any number that FP32 has, so the level is the right one.
// Stochastically t is rounded up, for the same reason: it is above a multiple of 2^-16 steps if and only if the rounded
// number is.
template <Span kSpan, bool kStochastic, Output kOutput>
__device__ inline void two_level(float (&v)[kRun], const Operand& p, RunIndices& result) {
  const float factor = run_factor<kSpan>(p);
  const float size = fabsf(factor);
  float of_4[4], of_8[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    of_4[i] = max_nan(max_nan(fabsf(v[4 * i]), fabsf(v[4 * i + 1])), max_nan(fabsf(v[4 * i + 2]), fabsf(v[4 * i + 3])));
  }
  of_8[0] = max_nan(of_4[0], of_4[1]);
  of_8[1] = max_nan(of_4[2], of_4[3]);
  const float amax = block_max(max_nan(of_8[0], of_8[1]), p.lanes) * size;
  const bool finite = amax < __uint_as_float(0x7F800000u);
  const float raw = rounded_to_bf16(amax * rounded_to_bf16(1.0F / 7));
  const float sf = fminf(fmaxf(raw, 0x1p-48F), 49152.0F);
  const float rounder = __uint_as_float(__float_as_uint(sf) & 0x7F800000u) * 0x1p21F;
  const float scale = __fsub_rn(__fadd_rn(sf, rounder), rounder);  // two bits after the first
  const float r = rounded_to_bf16(reciprocal(scale)) * size;
  std::uint32_t selector = 0;
  const std::uint32_t sign = __float_as_uint(factor) & 0x80000000u;
  constexpr bool kCodes = gives_codes<Policy::kTwoLevel, kStochastic, kOutput>;
  constexpr float kUnit = 0x1p21F;  // whose last place is a quarter
  std::uint32_t indices[2][kRun / 2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool level2 = __fmul_rn(of_8[i / 2], r) >= 4;
    const bool level3 = __fmul_rn(__fmul_rn(of_4[i], r), level2 ? 0.5F : 1.0F) >= 2;
    const int exponent = (level2 ? 1 : 0) + (level3 ? 1 : 0);
    selector |= static_cast<std::uint32_t>(exponent) << (8 * i);
    const float multiplier = r * __uint_as_float(static_cast<std::uint32_t>(127 - exponent) << 23);
#pragma unroll
    for (int k = 4 * i; k < 4 * i + 4; ++k) {
      float magnitude;
      if constexpr (kStochastic) {
        magnitude = __fmul_ru(fabsf(v[k]), multiplier);
      } else {
        const float sum = __fadd_rz(__fadd_rz(__fmul_rz(fabsf(v[k]), multiplier), 0.125F), kUnit);
        indices[k / 8][k % 8] = __float_as_uint(sum);
        magnitude = __fsub_rn(sum, kUnit);
      }
      if constexpr (kCodes) continue;
      v[k] = __uint_as_float(__float_as_uint(magnitude) | ((__float_as_uint(v[k]) & 0x80000000u) ^ sign));
    }
  }
  if (!(amax < 0x1p18F)) {  // far beyond the largest scale, or not finite
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      if constexpr (kCodes) {
        std::uint32_t& index = indices[i / 8][i % 8];
        index = finite ? min(index, __float_as_uint(kUnit) + (p.highest & 0xFFFFu)) : 0u;
      } else {
        v[i] = finite ? clip(v[i], p.largest) : 0.0F;
      }
    }
  }
  if constexpr (kCodes) {
    result.x[0] = signed_nibbles<true, 0>(indices[0], v, sign_mask(factor), p.highest);
    result.x[1] = signed_nibbles<true, 8>(indices[1], v, sign_mask(factor), p.highest);
  }
  result.scale = finite ? scale : __uint_as_float(kNanF32);
  result.selector = finite ? selector : 0;
}

// Quantizes a run that starts at (row, column) of the operand and is of it if `valid`. kMeasure only looks at it.
template <Policy kPolicy, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline RunIndices quantize_run(float (&v)[kRun], const Operand& p, Running& running, const RunGroups& groups,
                                          std::uint32_t row, std::uint32_t column, bool valid) {
  RunIndices result{};
  if constexpr ((kPolicy == Policy::kWindow || is_relative(kPolicy)) && kOutput == Output::kAny) {
    if (p.outer_parts) {
      const float amax = valid ? __ldg(p.outer_amax + outer_index(p, row, column)) : 0.0F;
      running.outer = open_outer<kPolicy, kStochastic, kSpan>(p, amax);
    }
  }
  if constexpr (kPolicy == Policy::kInteger) {
    const float amax = valid ? __ldg(p.outer_amax + outer_index(p, row, column)) : 0.0F;
    running.outer = open_outer<kPolicy, kStochastic, kSpan>(p, amax);
  }
  LevelMap map = kFloatMap;
  Scale s{0, 1};
  RunWords words{};
  std::uint32_t number = 0;
  if constexpr (kStochastic) number = row_number<kSpan>(p, running.start, row, valid);
  const auto first_words = [&] {
    if constexpr (kStochastic) {
      words.first = random_words<kSpan, 0>(p, running.start, groups, number, column);
    }
  };
  const auto second_words = [&] {
    if constexpr (kStochastic) {
      words.second = random_words<kSpan, 8>(p, running.start, groups, number, column);
    }
  };
  if constexpr (kPolicy == Policy::kTwoLevel) {
    transform_only<kSpan>(v, p, column);
    two_level<kSpan, kStochastic, kOutput>(v, p, result);
    s.scale = result.scale;
    if constexpr (gives_codes<kPolicy, kStochastic, kOutput>) return result;
  } else {
    const Extremes extremes = transform<kSignedScale<kPolicy>, kSpan>(v, p, column);
    if constexpr (kPolicy == Policy::kMeasure) {
      measure<kSpan>(p, extremes, running.seen, row, column, valid && first_of_block<kSpan>(p));
      return result;
    } else if constexpr (kPolicy == Policy::kMeasureSigned) {
      measure_signed<kSpan>(p, extremes, row, column, valid && first_of_block<kSpan>(p));
      return result;
    } else if constexpr (kPolicy == Policy::kInteger) {
      s = integer_scale<kSpan, kStochastic>(v, extremes, p, running.outer);
    } else if constexpr (kPolicy == Policy::kWindow) {
      s = windowed_scale<kSpan>(v, extremes, p, running.outer, running.seen, valid && first_of_block<kSpan>(p));
    } else if constexpr (kPolicy == Policy::kBetter) {
      first_words();
      second_words();
      const Better better = choose_way<kSpan, kStochastic>(v, extremes, p, running.outer, words);
      const Choice& choice = p.choices[better.selector == 0 ? 0 : 1];
      s = {better.way.scale, better.way.inverse};
      result.selector = better.selector;
      map = choice.map;
    } else if constexpr (is_relative(kPolicy)) {
      s = byte_scale<kSpan>(v, extremes, p, running.outer);
    } else if constexpr (is_power(kPolicy)) {
      s = power_scale<kSpan>(v, extremes, p);
    } else {
      s = block_scale<kPolicy, kSpan>(v, extremes, p);
    }
  }
  result.scale = s.scale;
  if constexpr (kPolicy != Policy::kBetter) first_words();
  round8<kPolicy, kStochastic, kOutput, 0>(v, s.inverse, p, map, words.first, result.x);
  if constexpr (kPolicy != Policy::kBetter) second_words();
  round8<kPolicy, kStochastic, kOutput, 8>(v, s.inverse, p, map, words.second, result.x);
  return result;
}

}  // namespace ufp4::cuda
