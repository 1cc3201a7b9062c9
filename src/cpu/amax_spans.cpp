// The kernels of formats whose scale is the largest magnitude over the largest level.
#include "cpu/job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/amax_spans.cpp"  // NOLINT(bugprone-suspicious-include): this file, for each target
#include "hwy/foreach_target.h"                  // IWYU pragma: keep
// clang-format off: the order matters
#include "cpu/spans-inl.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

Kernels::SpanFunction find_amax_span(const Job& job) { return choose_axis<false>(job); }

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
