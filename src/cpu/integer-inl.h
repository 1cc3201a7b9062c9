// Blocks under a signed integer: integer_multiple_rule of numerics/scale_rules.cpp for a vector of blocks.
#include "cpu/best_of_two-inl.h"

#if defined(UFP4_CPU_INTEGER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_INTEGER_INL_H_
#undef UFP4_CPU_INTEGER_INL_H_
#else
#define UFP4_CPU_INTEGER_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// The terms are the reciprocal of the second-level scale, 0 where that is 0, and the scale.
template <bool kStochastic>
void quantize_integer(const Job& job, const BlockInput& in, VU* HWY_RESTRICT words, VF& scale, VU& selectors) {
  const F32 f;
  const U32 u;
  const VF one = hn::Set(f, 1.0F);
  const auto [positive, negative] = find_extremes(in.x, in.runs);
  const VI amax_bits = hn::Max(hn::BitCast(I32(), positive), hn::BitCast(I32(), negative));
  const auto finite = hn::RebindMask(f, hn::Lt(amax_bits, hn::Set(I32(), kInfinityBits)));
  VF extreme;
  VF unused;
  make_scale<Grid::kFull>(job, positive, negative, 1.0F, extreme, unused);
  const VF magnitude = hn::Abs(extreme);
  const VF inverse = in.outer.first;
  const IntegerScales& integers = job.format->integers;
  const auto used =
      hn::And(hn::And(finite, hn::Ge(magnitude, hn::Set(f, integers.least))), hn::Gt(inverse, hn::Zero(f)));
  const VF r = hn::Mul(magnitude, inverse);
  const VF by = hn::Min(hn::Set(f, integers.most_lowered), hn::Mul(r, hn::Set(f, integers.lowered)));
  const VF lowered = kStochastic ? r : hn::Sub(r, by);
  const VF m = hn::Min(hn::Max(hn::Ceil(lowered), one), hn::Set(f, job.format->outer_divisor));
  const VF sign = hn::IfThenElseZero(hn::Lt(extreme, hn::Zero(f)), hn::Set(f, -0.0F));
  scale = hn::IfThenElseZero(used, hn::Or(m, sign));
  const VF multiplier = hn::Or(hn::Div(one, m), sign);
  // The unit is a power of two: it commutes with the rounding of a product that is not subnormal, and a code of one
  // that is comes out zero either way.
  const VF factor = hn::Mul(multiplier, hn::Set(f, factor_unit<Grid::kFull, kStochastic>(job)));
  VF value[kRun];
  for (int run = 0; run < in.runs; ++run) {
    UFP4_UNROLL
    for (int i = 0; i < kRun; ++i) value[i] = hn::IfThenElseZero(used, hn::Mul(in.x[run * kRun + i], inverse));
    make_codes<Grid::kFull, kStochastic, true>(job, value, 1, factor, in.at, in.first + run * kRun, words + run * 2);
  }
  selectors = hn::Zero(u);
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_INTEGER_INL_H_
