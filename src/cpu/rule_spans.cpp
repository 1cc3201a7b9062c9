// The kernels of formats whose scale follows another rule.
#include "cpu/job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rule_spans.cpp"  // NOLINT(bugprone-suspicious-include): this file, for each target
#include "hwy/foreach_target.h"                  // IWYU pragma: keep
// clang-format off: the order matters
#include "cpu/spans-inl.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

Kernels::SpanFunction find_rule_span(const Job& job) { return choose_axis<true>(job); }

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
