// From the values of an operand to the template arguments of a kernel.
#pragma once

#include "cuda/launch.h"
#include "cuda/operand.h"

namespace ufp4::cuda {

// Calls f<policy, stochastic>() for `p`.
template <typename F>
void with_rounding(const Operand& p, F f) {
  const auto with_policy = [&]<Policy kPolicy>() {
    p.stochastic ? f.template operator()<kPolicy, true>() : f.template operator()<kPolicy, false>();
  };
  switch (p.policy) {
    case Policy::kUniform: return with_policy.template operator()<Policy::kUniform>();
    case Policy::kFloat: return with_policy.template operator()<Policy::kFloat>();
    case Policy::kTable: return with_policy.template operator()<Policy::kTable>();
    case Policy::kSigned: return with_policy.template operator()<Policy::kSigned>();
    case Policy::kWindow: return with_policy.template operator()<Policy::kWindow>();
    case Policy::kByteUniform: return with_policy.template operator()<Policy::kByteUniform>();
    case Policy::kByteFloat: return with_policy.template operator()<Policy::kByteFloat>();
    case Policy::kPowerUniform: return with_policy.template operator()<Policy::kPowerUniform>();
    case Policy::kPowerFloat: return with_policy.template operator()<Policy::kPowerFloat>();
    case Policy::kBetter: return with_policy.template operator()<Policy::kBetter>();
    case Policy::kTwoLevel: return with_policy.template operator()<Policy::kTwoLevel>();
    case Policy::kInteger: return with_policy.template operator()<Policy::kInteger>();
    case Policy::kMeasure: return f.template operator()<Policy::kMeasure, false>();
    case Policy::kMeasureSigned: return f.template operator()<Policy::kMeasureSigned, false>();
  }
}

// Calls f<span, column output, row output>() for the kernel of kPolicy that outputs_of names.
template <Policy kPolicy, typename F>
void with_outputs(const Outputs& outputs, F f) {
  constexpr Span kFast = fast_span(kPolicy);
  if constexpr (only_measures(kPolicy)) {
    if (outputs.span == kFast) return f.template operator()<kFast, Output::kAny, Output::kAny>();
  } else if constexpr (kPolicy != Policy::kTable) {
    if (outputs == Outputs{kFast, Output::kPacked, Output::kPacked})
      return f.template operator()<kFast, Output::kPacked, Output::kPacked>();
    if (outputs == Outputs{kFast, Output::kPacked, Output::kBf16})
      return f.template operator()<kFast, Output::kPacked, Output::kBf16>();
    if (outputs == Outputs{kFast, Output::kBf16, Output::kBf16})
      return f.template operator()<kFast, Output::kBf16, Output::kBf16>();
    if constexpr (kPolicy == Policy::kInteger) {
      if (outputs == Outputs{kFast, Output::kPacked, Output::kInt8})
        return f.template operator()<kFast, Output::kPacked, Output::kInt8>();
      if (outputs == Outputs{kFast, Output::kInt8, Output::kInt8})
        return f.template operator()<kFast, Output::kInt8, Output::kInt8>();
    }
    if constexpr (kPolicy == Policy::kWindow) {
      if (outputs == Outputs{kFast, Output::kPacked, Output::kE4m3})
        return f.template operator()<kFast, Output::kPacked, Output::kE4m3>();
      if (outputs == Outputs{kFast, Output::kE4m3, Output::kE4m3})
        return f.template operator()<kFast, Output::kE4m3, Output::kE4m3>();
    }
  }
  f.template operator()<Span::kLanes, Output::kAny, Output::kAny>();
}

// The same for one operand.
template <Policy kPolicy, typename F>
void with_output(const Operand& p, F f) {
  with_outputs<kPolicy>(outputs_of(p, p),
                        [&]<Span kSpan, Output, Output kOutput>() { f.template operator()<kSpan, kOutput>(); });
}

}  // namespace ufp4::cuda
