// Scales that are no plain FP32 numbers: numerics/scale_rules.cpp for a vector of blocks.
#include "cpu/codes-inl.h"

#if defined(UFP4_CPU_RULES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_RULES_INL_H_
#undef UFP4_CPU_RULES_INL_H_
#else
#define UFP4_CPU_RULES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

inline constexpr float kFloatMax = std::numeric_limits<float>::max();

// The OuterTerms of each lane.
struct Outer {
  VF first;
  VF second;
};

HWY_INLINE Outer load_outer(const Span& span, std::size_t group) {
  const float* from = span.outer + group * span.outer_stride;
  return {hn::LoadU(F32(), from), hn::LoadU(F32(), from + kLanes)};
}

// To the nearest E4M3 number, for values from 0 to 448. A float has 23 bits after the first and E4M3 has three: adding
// and subtracting 2^20 times the value's power of two rounds the other 20 away.
HWY_INLINE VF round_to_e4m3(VF value) {
  const U32 u;
  const VU exponent = hn::And(hn::BitCast(u, value), hn::Set(u, 0x7F800000u));
  const VU least = hn::Set(u, 121u << 23);  // 2^-6: below are the subnormal numbers, with its steps
  const VF rounder = hn::BitCast(F32(), hn::Add(hn::Max(exponent, least), hn::Set(u, 20u << 23)));
  return hn::Sub(hn::Add(value, rounder), rounder);
}

// 1 / x, at most the largest float; x is not negative. Not by dividing by 0, of which Highway's portable target makes 0
// in some of its versions.
HWY_INLINE VF bounded_inverse(VF x) {
  const F32 f;
  const VF most = hn::Set(f, kFloatMax);
  return hn::IfThenElse(hn::Eq(x, hn::Zero(f)), most, hn::Min(hn::Div(hn::Set(f, 1.0F), x), most));
}

// 2^exponent, -127 <= exponent <= 127.
HWY_INLINE VF power_of_two(VI exponent) {
  const I32 i;
  const VI bits = hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(i, 127)));
  return hn::BitCast(F32(), hn::Max(bits, hn::Set(i, 1 << 22)));
}

// The exponent field of a magnitude without its bias.
HWY_INLINE VI exponent_field(VF magnitude) {
  const I32 i;
  return hn::Sub(hn::ShiftRight<23>(hn::BitCast(i, magnitude)), hn::Set(i, 127));
}

HWY_INLINE VI clamp(VI value, int least, int most) {
  return hn::Min(hn::Max(value, hn::Set(I32(), least)), hn::Set(I32(), most));
}

// The scale of a block, and what its values are multiplied by.
struct Scale {
  VF scale;
  VF multiplier;
};

// From the largest positive and the largest negative magnitude of finite blocks.
template <Grid kGrid>
HWY_INLINE Scale scale_by_rule(const Job& job, VF positive, VF negative, const Outer& outer) {
  const F32 f;
  const VF one = hn::Set(f, 1.0F);
  const VF amax = hn::Max(positive, negative);
  if constexpr (kGrid == Grid::kFull) {
    // The window of signed powers of two: the only rule of full elements.
    VF extreme;
    VF unused;
    make_scale<kGrid>(job, positive, negative, 1.0F, extreme, unused);
    const VF r = hn::Mul(hn::Abs(extreme), outer.first);
    const VI floor = exponent_field(r);
    const auto inside = hn::Ge(hn::Mul(hn::Set(f, job.tau), power_of_two(clamp(floor, -127, 127))), r);
    const VI one_less = hn::VecFromMask(I32(), hn::RebindMask(I32(), inside));  // -1 where inside
    const VI k = clamp(hn::Add(hn::Add(floor, hn::Set(I32(), 1)), one_less), job.least_power, job.largest_power);
    const VF sign = hn::IfThenElseZero(hn::Lt(extreme, hn::Zero(f)), hn::Set(f, -0.0F));
    return {hn::Or(power_of_two(k), sign), hn::Mul(outer.first, hn::Or(power_of_two(hn::Neg(k)), sign))};
  } else if (job.rule == ScaleRule::kExponentFloor || job.rule == ScaleRule::kExponentFloorInt) {
    const VI exponent = hn::Sub(exponent_field(amax), hn::Set(I32(), job.largest_exponent));
    const VF scale = power_of_two(clamp(exponent, -127, 127));
    return {scale, hn::Div(one, hn::Max(scale, hn::Set(f, job.least_divisor)))};
  } else {
    const bool integers = job.rule == ScaleRule::kTensorE4m3Int;
    const VF relative =
        integers ? hn::Mul(hn::Div(amax, hn::Set(f, job.largest)), outer.first) : hn::Mul(amax, outer.first);
    const auto zero = hn::Eq(amax, hn::Zero(f));
    const VF scale = hn::IfThenZeroElse(zero, round_to_e4m3(hn::Min(relative, hn::Set(f, 448.0F))));
    const VF inverse = bounded_inverse(hn::Mul(scale, outer.second));
    return {scale, integers ? hn::IfThenZeroElse(hn::Eq(scale, hn::Zero(f)), inverse) : inverse};
  }
}

// As scale_block, for the other rules.
template <Grid kGrid, bool kStochastic>
HWY_INLINE bool scale_block_by_rule(const Job& job, const Extremes& extremes, const Outer& outer, VF& scale,
                                    VF& factor) {
  const F32 f;
  // Multiplying by the factor is exact unless the block is near the ends of FP32.
  const auto [positive, negative] = with_late_factor(job, extremes);
  const Scale found = scale_by_rule<kGrid>(job, positive, negative, outer);
  const VF amax = hn::BitCast(f, hn::Max(hn::BitCast(I32(), positive), hn::BitCast(I32(), negative)));
  const auto zero = hn::Eq(amax, hn::Zero(f));
  scale = found.scale;
  factor = hn::IfThenZeroElse(
      zero, hn::Mul(found.multiplier, hn::Set(f, job.late_factor * factor_unit<kGrid, kStochastic>(job))));
  // Far from the ends of FP32, multiplying by a power of two before or after a rounding gives the same bits, unless a
  // product is subnormal; and those are so small that their codes are zero either way.
  const auto inside = [&](VF v) { return hn::And(hn::Ge(v, hn::Set(f, 0x1p-100F)), hn::Le(v, hn::Set(f, 0x1p100F))); };
  return hn::AllTrue(f, hn::Or(zero, hn::And(inside(amax), inside(hn::Abs(found.multiplier)))));
}

// Any block, as quantize_any_block.
template <Grid kGrid, bool kStochastic>
HWY_NOINLINE void quantize_any_block_by_rule(const Job& job, const VF* HWY_RESTRICT x, int runs, const Outer& outer,
                                             const Coordinates& at, int first, VU* HWY_RESTRICT words, VF& scale) {
  const U32 u;
  const F32 f;
  const VF late = hn::Set(f, job.late_factor);
  const auto [positive, negative] = with_late_factor(job, find_extremes(x, runs));
  const VI amax_bits = hn::Max(hn::BitCast(I32(), positive), hn::BitCast(I32(), negative));
  const auto finite = hn::RebindMask(f, hn::Lt(amax_bits, hn::Set(I32(), kInfinityBits)));
  const Scale found = scale_by_rule<kGrid>(job, positive, negative, outer);
  scale = hn::IfThenElse(finite, found.scale, hn::Set(f, std::numeric_limits<float>::quiet_NaN()));
  const VF multiplier = hn::IfThenZeroElse(hn::Eq(hn::BitCast(f, amax_bits), hn::Zero(f)), found.multiplier);

  const VF unit = hn::Set(f, factor_unit<kGrid, kStochastic>(job));
  const VF steps = hn::Set(f, job.inverse_unit);
  const VF most = hn::Div(hn::Set(f, job.limit), steps);
  const VF least = hn::Div(hn::Set(f, -job.negative_limit), steps);
  VF value[kRun];
  for (int run = 0; run < runs; ++run) {
    for (int i = 0; i < kRun; ++i) {
      const VF t = hn::Mul(hn::Mul(x[run * kRun + i], late), multiplier);
      value[i] = hn::Min(hn::Max(t, least), most);  // before the unit, which could overflow
    }
    make_codes<kGrid, kStochastic, true>(job, value, 1, unit, at, first + run * kRun, words + run * 2);
  }
  for (int i = 0; i < 2 * runs; ++i) words[i] = hn::IfThenElseZero(hn::RebindMask(u, finite), words[i]);
}

// A block's scale and codes, by whichever rule.
template <Grid kGrid, bool kStochastic, bool kBounded>
HWY_INLINE bool find_scale(const Job& job, const Extremes& extremes, const Outer& outer, VF& scale, VF& factor) {
  if constexpr (kBounded) {
    return scale_block_by_rule<kGrid, kStochastic>(job, extremes, outer, scale, factor);
  } else {
    return scale_block<kGrid, kStochastic>(job, extremes, scale, factor);
  }
}

template <Grid kGrid, bool kStochastic, bool kBounded>
HWY_INLINE void quantize_unusual(const Job& job, const VF* HWY_RESTRICT x, int runs, const Outer& outer,
                                 const Coordinates& at, int first, VU* HWY_RESTRICT words, VF& scale) {
  if constexpr (kBounded) {
    quantize_any_block_by_rule<kGrid, kStochastic>(job, x, runs, outer, at, first, words, scale);
  } else {
    quantize_any_block<kGrid, kStochastic>(job, x, runs, at, first, words, scale);
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_RULES_INL_H_
