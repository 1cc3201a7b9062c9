// Blocks that are quantized in two ways, of which the one with the smaller squared error is kept: best_of_two_rule of
// numerics/scale_rules.cpp for a vector of blocks.
#include "cpu/codes-inl.h"
#include "cpu/dequantize-inl.h"
#include "cpu/rules-inl.h"

#if defined(UFP4_CPU_BEST_OF_TWO_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_BEST_OF_TWO_INL_H_
#undef UFP4_CPU_BEST_OF_TWO_INL_H_
#else
#define UFP4_CPU_BEST_OF_TWO_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// A block's values with all factors of the transform, and where it lies.
struct BlockInput {
  const VF* x;
  int runs;
  Coordinates at;
  int first;  // element of the unit
  Outer outer;
};

// A block quantized.
struct BlockResult {
  VU words[16];
  VF scale;
  VF error;  // sum of squares
};

// One way; `job` has its element format. The terms of the outer scale are the factor to the E4M3 scale, and the largest
// magnitude itself.
template <Grid kGrid, bool kStochastic>
HWY_NOINLINE void quantize_one_way(const Job& job, const BlockInput& in, const VF& amax, BlockResult& out) {
  const F32 f;
  const VF one = hn::Set(f, 1.0F);
  const VF base = hn::Mul(hn::Div(amax, hn::Set(f, job.base_divisor)), in.outer.first);
  const VF relative = hn::Mul(base, hn::Set(f, job.base_factor));
  out.scale = round_to_e4m3(hn::Min(relative, hn::Set(f, 448.0F)));
  const VF multiplier = bounded_inverse(hn::Mul(out.scale, hn::Div(one, in.outer.first)));

  const VF most = hn::Set(f, job.largest);
  const VF least = hn::Set(f, -job.largest);
  const VF unit = hn::Set(f, factor_unit<kGrid, kStochastic>(job));
  const VF divisor = hn::Set(f, job.format->outer_divisor);
  const CodeValues value_of(job.code_values);
  VF error = hn::Zero(f);
  for (int run = 0; run < in.runs; ++run) {
    const VF* x = in.x + run * kRun;
    VF t[kRun];
    UFP4_UNROLL
    for (int i = 0; i < kRun; ++i) t[i] = hn::Min(hn::Max(hn::Mul(x[i], multiplier), least), most);
    VU* words = out.words + 2 * run;
    make_codes<kGrid, kStochastic, true>(job, t, 1, unit, in.at, in.first + run * kRun, words);
    UFP4_UNROLL
    for (int i = 0; i < kRun; ++i) {
      const VU code = hn::And(hn::ShiftRightSame(words[i / 8], 4 * (i % 8)), hn::Set(U32(), 15u));
      const VF value = hn::Mul(value_of(code), out.scale);
      const VF difference = hn::Sub(hn::Div(hn::Mul(value, in.outer.second), divisor), x[i]);
      error = hn::Add(error, hn::Mul(difference, difference));
    }
  }
  out.error = error;
}

template <bool kStochastic>
auto choose_way(const Job& job) {
  return job.uniform ? quantize_one_way<Grid::kUniform, kStochastic> : quantize_one_way<Grid::kStretches, kStochastic>;
}

// The selector is 1 where the alternative is better.
template <bool kStochastic>
void quantize_best_of_two(const Job& job, const BlockInput& in, VU* HWY_RESTRICT words, VF& scale, VU& selectors) {
  const F32 f;
  const U32 u;
  const auto [positive, negative] = find_extremes(in.x, in.runs);
  const VI amax_bits = hn::Max(hn::BitCast(I32(), positive), hn::BitCast(I32(), negative));
  const VF amax = hn::BitCast(f, amax_bits);
  const auto finite = hn::RebindMask(f, hn::Lt(amax_bits, hn::Set(I32(), kInfinityBits)));
  const auto some = hn::And(finite, hn::Gt(amax, hn::Zero(f)));

  BlockResult first;
  BlockResult second;
  choose_way<kStochastic>(job)(job, in, amax, first);
  choose_way<kStochastic> (*job.alternative)(*job.alternative, in, amax, second);
  const auto better = hn::Lt(second.error, first.error);
  for (int i = 0; i < 2 * in.runs; ++i) {
    const VU chosen = hn::IfThenElse(hn::RebindMask(u, better), second.words[i], first.words[i]);
    words[i] = hn::IfThenElseZero(hn::RebindMask(u, some), chosen);
  }
  scale = hn::IfThenElseZero(some, hn::IfThenElse(better, second.scale, first.scale));
  scale = hn::IfThenElse(finite, scale, hn::Set(f, std::numeric_limits<float>::quiet_NaN()));
  selectors = hn::IfThenElseZero(hn::RebindMask(u, hn::And(some, better)), hn::Set(u, 1u));
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_BEST_OF_TWO_INL_H_
