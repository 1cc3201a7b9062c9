// The gradient of a checkpoint under recipes, against the true one: its bias and its variance over draws of the random
// bits (stochastic rounding, signs of the transform), by tensor, and what a small step along it does to the loss.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "analysis/gradient_bias.h"
#include "train/checkpoint_analysis.h"

namespace ufp4 {

// What gradients are compared with.
enum class GradientReference : std::uint8_t { kFp32, kBf16 };

template <>
struct Names<GradientReference> {
  static constexpr std::array<std::string_view, 2> list{"fp32", "bf16"};
};

struct GradientSettings {
  BatchSettings batch;
  GradientReference reference = GradientReference::kFp32;
  std::int64_t draws = 8;     // seeds counted from the run's own; 2 at least, 3 for intervals of the bias
  bool each_operand = false;  // every recipe also with one quantized operand at a time
  double step = 0.01;         // of the loss: what a step along the true gradient lowers it by, to first order
};

struct TensorGradient {
  std::string name;
  analysis::GradientFigures figures;
};

// One operand of a recipe quantized, all others in BF16 (transformed where the recipe does it).
struct OperandGradient {
  std::string operand;                // "fprop.x"
  analysis::GradientFigures linears;  // of all linears' weights as one
};

struct RecipeGradients {
  std::string name;
  std::int64_t draws = 0;              // of these figures; 2 equal ones where nothing is random
  double loss = 0;                     // mean over draws
  analysis::GradientFigures whole;     // of all parameters as one
  analysis::GradientFigures linears;   // of the quantized linears' weights as one
  std::vector<TensorGradient> layers;  // of the linears of a layer as one: "layers.0", ..
  std::vector<TensorGradient> tensors;
  std::vector<OperandGradient> operands;
  // Change of the FP32 loss by a step along a draw, over the change by the same step along the true gradient; nothing
  // where the reference is BF16.
  std::optional<analysis::Interval> step_ratio;
};

struct GradientReport {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  GradientReference reference = GradientReference::kFp32;
  double loss = 0;  // of the reference
  std::vector<RecipeGradients> recipes;
};

// Throws InputError for a checkpoint, data or settings that cannot be used.
GradientReport measure_gradients(const GradientSettings& settings, std::span<const Recipe> recipes);

// The recipe with one operand quantized, by role; the transform stays.
Recipe with_one_operand(const Recipe& recipe, Gemm gemm, std::size_t operand);

nlohmann::ordered_json to_json(const GradientReport& report);

}  // namespace ufp4
