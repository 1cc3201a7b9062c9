// The figures of one operand of one GEMM of a linear.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "analysis/matrix.h"

namespace ufp4 {

struct OperandReport {
  std::string linear;
  std::string_view gemm;     // "fprop", "dgrad", "wgrad"
  std::string_view operand;  // "x", "w", "dy"
  bool quantized = false;    // the first scheme of the figures is the recipe's own
  analysis::MatrixReport figures;
};

nlohmann::ordered_json to_json(const OperandReport& report);

}  // namespace ufp4
