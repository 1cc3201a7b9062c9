// From the values of an operand to the template arguments of a kernel.
#pragma once

#include "cuda/operand.h"

namespace ufp4::cuda {

// Calls f<grid, stochastic>() for `p`.
template <typename F>
void with_rounding(const Operand& p, F f) {
  const auto with_grid = [&]<Grid kGrid>() {
    p.stochastic ? f.template operator()<kGrid, true>() : f.template operator()<kGrid, false>();
  };
  switch (p.grid) {
    case Grid::kUniform: return with_grid.template operator()<Grid::kUniform>();
    case Grid::kSigned: return with_grid.template operator()<Grid::kSigned>();
    case Grid::kFloat: return with_grid.template operator()<Grid::kFloat>();
    case Grid::kTable: return with_grid.template operator()<Grid::kTable>();
    case Grid::kWindow: return with_grid.template operator()<Grid::kWindow>();
  }
}

// Calls f<span, column output, row output>() for two operands of kGrid. Span::kOneRun has kernels for the results that
// are asked for together; any others take the general one.
template <Grid kGrid, typename F>
void with_outputs(const Operand& column, const Operand& row, F f) {
  const auto are = [&](Output of_column, Output of_row) { return column.output == of_column && row.output == of_row; };
  if constexpr (kGrid != Grid::kTable) {
    if (column.span == Span::kOneRun && row.span == Span::kOneRun) {
      constexpr Span kSpan = Span::kOneRun;
      if (are(Output::kPacked, Output::kPacked))
        return f.template operator()<kSpan, Output::kPacked, Output::kPacked>();
      if (are(Output::kPacked, Output::kBf16)) return f.template operator()<kSpan, Output::kPacked, Output::kBf16>();
      if (are(Output::kBf16, Output::kBf16)) return f.template operator()<kSpan, Output::kBf16, Output::kBf16>();
      if constexpr (kGrid == Grid::kWindow) {
        if (are(Output::kPacked, Output::kE4m3)) return f.template operator()<kSpan, Output::kPacked, Output::kE4m3>();
        if (are(Output::kE4m3, Output::kE4m3)) return f.template operator()<kSpan, Output::kE4m3, Output::kE4m3>();
      }
    }
  }
  f.template operator()<Span::kLanes, Output::kAny, Output::kAny>();
}

// The same for one operand.
template <Grid kGrid, typename F>
void with_output(const Operand& p, F f) {
  with_outputs<kGrid>(p, p, [&]<Span kSpan, Output, Output kOutput>() { f.template operator()<kSpan, kOutput>(); });
}

}  // namespace ufp4::cuda
