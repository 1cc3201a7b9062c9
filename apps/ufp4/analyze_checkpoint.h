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

// BF16 and quantized passes side by side: a recipe for every scheme, then the named ones.
void print_chain(const CheckpointRun& run, const std::vector<OperandSpec>& schemes,
                 const std::vector<std::string>& recipes);

}  // namespace ufp4::app
