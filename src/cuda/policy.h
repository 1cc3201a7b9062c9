// From the values of an operand to the template arguments of a kernel.
#pragma once

#include "cuda/operand.h"

namespace ufp4::cuda {

// Calls f<grid, stochastic, span>() for `p`, with `span` instead of its own.
template <typename F>
void with_policy(const Operand& p, Span span, F f) {
  const auto with_span = [&]<Grid kGrid, bool kStochastic>() {
    if constexpr (kGrid != Grid::kTable) {  // tables have the general span only
      if (span == Span::kOneRun) return f.template operator()<kGrid, kStochastic, Span::kOneRun>();
    }
    f.template operator()<kGrid, kStochastic, Span::kLanes>();
  };
  const auto with_rounding = [&]<Grid kGrid>() {
    p.stochastic ? with_span.template operator()<kGrid, true>() : with_span.template operator()<kGrid, false>();
  };
  switch (p.grid) {
    case Grid::kUniform: return with_rounding.template operator()<Grid::kUniform>();
    case Grid::kFloat: return with_rounding.template operator()<Grid::kFloat>();
    case Grid::kTable: return with_rounding.template operator()<Grid::kTable>();
    case Grid::kWindow: return with_rounding.template operator()<Grid::kWindow>();
  }
}

}  // namespace ufp4::cuda
