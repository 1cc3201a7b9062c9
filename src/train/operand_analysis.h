// Measures the operands of the linears' GEMMs while a model runs, before they are quantized.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/matrix.h"
#include "torch/linear_observer.h"
#include "torch/random_context.h"
#include "train/operand_report.h"
#include "ufp4/recipe.h"

namespace ufp4 {

class OperandAnalysis : public LinearObserver {
 public:
  struct Settings {
    std::vector<OperandSpec> schemes;  // measured after the recipe's own
    std::int64_t tokens = 0;           // rows of x and dy to measure at most; 0: all
    int threads = 1;
  };
  using Sink = std::function<void(const OperandReport&)>;

  // `linears` are the names by number (Transformer::linears()). `sink` is given each report as it is made.
  OperandAnalysis(const Recipe& recipe, std::vector<std::string> linears, Settings settings, Sink sink);

  // The context of the passes that follow with this object as the observer.
  RandomContext watch(const RandomContext& context);

  void operand(std::uint32_t number, OperandRole role, const at::Tensor& stored) override;
  void result(std::uint32_t, Gemm, const at::Tensor&) override {}

 private:
  Recipe recipe_;
  std::vector<std::string> linears_;
  Settings settings_;
  Sink sink_;
  RandomContext context_;
};

// Each format without and with the transform of 16, on all of torch's threads. Throws InputError for an unknown format.
OperandAnalysis::Settings operand_settings(const std::vector<std::string>& formats, std::int64_t tokens);

// Lines of analysis.jsonl: what is expected of the bins of the formats that a run measures, and one operand's figures.
std::string expected_bins_line(std::int64_t step, std::span<const OperandSpec> schemes, const Recipe& recipe);
std::string operand_line(std::int64_t step, const OperandReport& report);

// The bytes of a BF16 or FP32 matrix on the CPU.
ConstMatrix matrix_of(const at::Tensor& tensor);

}  // namespace ufp4
