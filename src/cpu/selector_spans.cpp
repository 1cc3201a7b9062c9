// The kernels of formats that choose something for each block or part of it beside its scale, or whose values are
// scaled twice.
#include "cpu/job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/selector_spans.cpp"  // NOLINT(bugprone-suspicious-include): this file, for each target
#include "hwy/foreach_target.h"                      // IWYU pragma: keep
// clang-format off: the order matters
#include "cpu/best_of_two-inl.h"
#include "cpu/integer-inl.h"
#include "cpu/spans-inl.h"
#include "cpu/two_level-inl.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

using BlockFunction = void (*)(const Job& job, const BlockInput& in, VU* words, VF& scale, VU& selectors);

template <BlockFunction kQuantize>
void selector_span(const Job& job, const Span& span) {
  const auto load = job.column ? choose_load<true>(job.input) : choose_load<false>(job.input);
  Coordinates at = first_coordinates(job, span);
  Span here = span;
  const int blocks = job.unit / job.block;
  for (std::size_t group = 0; group < span.groups; ++group) {
    VF x[128];
    VU words[16];
    VU scales[8];
    VU selectors[8];
    load(job, here, x);
    if (job.late_factor != 1) {
      for (int i = 0; i < job.unit; ++i) x[i] = hn::Mul(x[i], hn::Set(F32(), job.late_factor));
    }
    const Outer outer = load_outer(span, group);
    for (int b = 0; b < blocks; ++b) {
      const int first = b * job.block;
      VF scale;
      kQuantize(job, {x + first, job.block / kRun, at, first, outer}, words + first / 8, scale, selectors[b]);
      scales[b] = hn::BitCast(U32(), scale);
    }
    store_unit(job, words, job.unit / 8, span.codes, group, span.stage_stride);
    store_unit(job, scales, blocks, reinterpret_cast<std::uint32_t*>(span.scales), group, span.stage_stride);
    store_unit(job, selectors, blocks, span.selectors, group, span.stage_stride);
    advance(job, here);
    advance(job, at);
  }
}

Kernels::SpanFunction find_selector_span(const Job& job) {
  if (job.rule == ScaleRule::kIntegerMultiple) {
    return job.stochastic ? selector_span<quantize_integer<true>> : selector_span<quantize_integer<false>>;
  }
  if (job.rule == ScaleRule::kTwoLevelExponent) {
    return job.stochastic ? selector_span<quantize_two_level<true>> : selector_span<quantize_two_level<false>>;
  }
  return job.stochastic ? selector_span<quantize_best_of_two<true>> : selector_span<quantize_best_of_two<false>>;
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
