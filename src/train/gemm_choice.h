// What multiplies the operands of a run's linears.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "torch/linear_passes.h"
#include "train/run_config.h"

namespace ufp4 {

struct GemmChoice {
  GemmPath path = GemmPath::kEmulated;
  std::string description;  // for the log: what runs and, where FP8 tensor cores were asked for and are not used, why
};

// By recipe, train.gemm, the model's shapes and what the device has.
GemmChoice choose_gemm(const RunConfig& config, const c10::Device& device);

}  // namespace ufp4
