// Blocks with a power of two for each 8 and for each 4 of their elements: two_level_exponent_rule of
// numerics/scale_rules.cpp for a vector of blocks.
#include "cpu/best_of_two-inl.h"

#if defined(UFP4_CPU_TWO_LEVEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_TWO_LEVEL_INL_H_
#undef UFP4_CPU_TWO_LEVEL_INL_H_
#else
#define UFP4_CPU_TWO_LEVEL_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// Rounds a float that is not negative to one whose last kBits bits are zero, ties to even.
template <int kBits>
HWY_INLINE VF round_off(VF value) {
  const U32 u;
  const VU bits = hn::BitCast(u, value);
  const VU odd = hn::And(hn::ShiftRight<kBits>(bits), hn::Set(u, 1u));
  const VU rounded = hn::Add(hn::Add(bits, hn::Set(u, (1u << (kBits - 1)) - 1u)), odd);
  return hn::BitCast(F32(), hn::And(rounded, hn::Set(u, ~((1u << kBits) - 1u))));
}

// magnitude * factor, rounded down (or up, kUp) instead of to nearest; the factor has 8 bits. A comparison of the
// result with any FP32 number then has the same outcome as a comparison of the exact product.
template <bool kUp>
HWY_INLINE VF directed_product(VF magnitude, VF factor) {
  const F32 f;
  const I32 i32;
  // The magnitude in two parts: their products with the factor are exact, so that what the sum of both loses by its
  // rounding can be computed exactly.
  const VF upper = hn::BitCast(f, hn::And(hn::BitCast(U32(), magnitude), hn::Set(U32(), 0xFFFFF000u)));
  const VF a = hn::Mul(upper, factor);
  const VF b = hn::Mul(hn::Sub(magnitude, upper), factor);
  const VF sum = hn::Add(a, b);
  const VF lost = hn::Sub(b, hn::Sub(sum, a));
  const auto beyond = kUp ? hn::Gt(lost, hn::Zero(f)) : hn::Lt(lost, hn::Zero(f));
  const VI step = hn::VecFromMask(i32, hn::RebindMask(i32, beyond));  // -1 where the neighbour is wanted
  const VI bits = hn::BitCast(i32, sum);
  return hn::BitCast(f, kUp ? hn::Sub(bits, step) : hn::Add(bits, step));
}

// The index 0..7 of |x| * factor; halves go up. `n` holds the random numbers, without kStochastic nothing.
template <bool kStochastic>
HWY_INLINE VU index_half_up(VF magnitude, VF factor, VU n) {
  const F32 f;
  const VF seven = hn::Set(f, 7.0F);
  const VF t = hn::Min(directed_product<kStochastic>(magnitude, factor), seven);
  const VF lower = hn::Floor(t);
  const VF rest = hn::Sub(t, lower);
  const VF half = hn::Set(f, 0.5F);
  VF up;
  if constexpr (kStochastic) {
    const VF drawn = hn::ConvertTo(f, hn::BitCast(I32(), n));
    up = hn::IfThenElseZero(hn::Lt(hn::Mul(hn::Add(drawn, half), hn::Set(f, 0x1p-16F)), rest), hn::Set(f, 1.0F));
  } else {
    up = hn::IfThenElseZero(hn::Ge(rest, half), hn::Set(f, 1.0F));
  }
  return hn::BitCast(U32(), hn::ConvertTo(I32(), hn::Min(hn::Add(lower, up), seven)));
}

// The selectors of four elements are two bits, the first lowest.
template <bool kStochastic>
void quantize_two_level(const Job& job, const BlockInput& in, VU* HWY_RESTRICT words, VF& scale, VU& selectors) {
  const F32 f;
  const U32 u;
  const I32 i32;
  const VF one = hn::Set(f, 1.0F);
  const VF half = hn::Set(f, 0.5F);
  VF largest[128 / 4];  // of four elements; NaN is beyond all others as an integer
  VI amax_bits = hn::Zero(i32);
  for (int part = 0; part < in.runs * 4; ++part) {
    const VF* x = in.x + part * 4;
    const auto bits = [&](int i) HWY_ATTR { return hn::BitCast(i32, hn::Abs(x[i])); };
    const VI here = hn::Max(hn::Max(bits(0), bits(1)), hn::Max(bits(2), bits(3)));
    largest[part] = hn::BitCast(f, here);
    amax_bits = hn::Max(amax_bits, here);
  }
  const auto finite = hn::Lt(amax_bits, hn::Set(i32, kInfinityBits));
  const VF seventh = hn::Set(f, 0x1.24p-3F);  // as BF16 has it
  const VF raw = round_off<16>(hn::Mul(hn::BitCast(f, amax_bits), seventh));
  scale = round_off<21>(hn::Min(hn::Max(raw, hn::Set(f, 0x1p-48F)), hn::Set(f, 49152.0F)));
  const VF r = round_off<16>(hn::Div(one, scale));

  selectors = hn::Zero(u);
  for (int run = 0; run < in.runs; ++run) {
    VU draws[kRun / 2];
    if constexpr (kStochastic) draw_words(job, in.at, in.first + run * kRun, draws);
    for (int eight = 2 * run; eight < 2 * run + 2; ++eight) {
      const VF amax8 = hn::Max(largest[2 * eight], largest[2 * eight + 1]);
      const auto second = hn::Ge(hn::Mul(amax8, r), hn::Set(f, 4.0F));
      const VF of_8 = hn::IfThenElse(second, half, one);
      VU indices = hn::Zero(u);
      VU signs = hn::Zero(u);
      for (int four = 0; four < 2; ++four) {
        const int part = 2 * eight + four;
        const auto third = hn::Ge(hn::Mul(hn::Mul(largest[part], r), of_8), hn::Set(f, 2.0F));
        const VF of_4 = hn::IfThenElse(third, half, one);
        const VF factor = hn::Mul(hn::Mul(r, hn::Set(f, 4.0F)), hn::Mul(of_8, of_4));
        const VU bit = hn::Set(u, 1u);
        const VU exponent = hn::Add(hn::IfThenElseZero(hn::RebindMask(u, second), bit),
                                    hn::IfThenElseZero(hn::RebindMask(u, third), bit));
        selectors = hn::Or(selectors, hn::ShiftLeftSame(exponent, 2 * part));
        UFP4_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int element = part * 4 + i;
          VU n = hn::Zero(u);
          if constexpr (kStochastic) {
            const VU two = draws[element % kRun / 2];
            n = element % 2 == 0 ? hn::And(two, hn::Set(u, 0xFFFFu)) : hn::ShiftRight<16>(two);
          }
          const VF x = in.x[element];
          const int shift = 4 * (4 * four + i);
          indices = hn::Or(indices, hn::ShiftLeftSame(index_half_up<kStochastic>(hn::Abs(x), factor, n), shift));
          const VU sign = hn::And(hn::BitCast(u, x), hn::Set(u, kSignBit));
          signs = hn::Or(signs, hn::ShiftRightSame(sign, 28 - shift));
        }
      }
      words[eight] = hn::IfThenElseZero(hn::RebindMask(u, finite), join_sign(indices, signs, CodeKind::kSignMagnitude));
    }
  }
  scale = hn::IfThenElse(hn::RebindMask(f, finite), scale, hn::Set(f, std::numeric_limits<float>::quiet_NaN()));
  selectors = hn::IfThenElseZero(hn::RebindMask(u, finite), selectors);
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_TWO_LEVEL_INL_H_
