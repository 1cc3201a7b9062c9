// Where the bytes of a run go on a GPU, for a plan (train/memory.h has the estimate).
#pragma once

#include "config/run_config.h"

namespace ufp4 {

struct PlanMemory {
  double weights = 0;   // FP32
  double moments = 0;   // FP32, two
  double operands = 0;  // of the weights, kept for a step
  double gradients = 0;
  double stash = 0;        // inputs of the linears for the backward pass, of one micro-batch
  double activations = 0;  // the rest of it, with the logits at hand
  double host = 0;         // of the host, for train.offload_layers
  double total = 0;        // on the device at most at a time
};

// With the first three and the gradients shared out among `devices`.
PlanMemory plan_memory(const RunConfig& config, std::int64_t devices);

}  // namespace ufp4
