#include "train/plan_memory.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "train/memory.h"

namespace ufp4 {

PlanMemory plan_memory(const RunConfig& config, std::int64_t devices) {
  const MemoryEstimate estimate = estimate_memory(config, at::Device(at::kCUDA, 0));
  const auto share = static_cast<double>(devices);
  const auto parameters = static_cast<double>(parameter_count(config.model));
  const std::int64_t tokens = config.train.micro_batch * config.model.context;
  const std::int64_t keeping = config.model.layers - offloaded_layers(config) - recomputed_layers(config);
  PlanMemory memory;
  memory.weights = 4 * parameters / share;
  memory.moments = 8 * parameters / share;
  memory.operands = (estimate.state - 12 * parameters) / share;
  memory.gradients = estimate.gradients / share;
  memory.stash = activation_bytes(config.model, tokens, estimate.stash_bytes, keeping) -
                 activation_bytes(config.model, tokens, 0, keeping);
  memory.activations = estimate.activations - memory.stash;
  memory.host = estimate.host;
  const bool one_pass = config.train.micro_batch == config.train.batch;
  memory.total =
      memory.weights + memory.moments + memory.operands +
      (one_pass ? std::max(memory.gradients, estimate.activations) : memory.gradients + estimate.activations);
  return memory;
}

}  // namespace ufp4
