// The parts of `ufp4 analyze` that run a checkpoint's model; only in a build with UFP4_TORCH.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/matrix.h"
#include "config/run_config.h"

namespace ufp4::app {

struct CheckpointRun {
  std::string checkpoint;
  std::vector<std::string> data;
  std::int64_t sequences = 4;
  int threads = 1;
  bool json = false;
  DeviceKind device = DeviceKind::kAuto;
  bool bins = false;  // of operands, in the table
};

// The six operands of every linear under each scheme.
void print_operands(const CheckpointRun& run, const std::vector<OperandSpec>& schemes);

struct GradientRun {
  std::vector<std::string> recipes;
  std::int64_t draws = 8;
  bool each_operand = false;
  std::string reference = "fp32";
};

// The gradient under each recipe: bias, variance, by layer and operand (train/gradient_analysis.h).
void print_gradients(const CheckpointRun& run, const GradientRun& gradients);

// BF16 and quantized passes side by side: a recipe for every scheme, then the named ones.
void print_chain(const CheckpointRun& run, const std::vector<OperandSpec>& schemes,
                 const std::vector<std::string>& recipes);

}  // namespace ufp4::app
