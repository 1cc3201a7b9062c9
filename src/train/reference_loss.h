// The model's loss in FP32, composed of torch's own operations: what the arithmetic of a training step is measured
// against. Slow, and as large in memory as torch makes it.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "config/model_config.h"

namespace ufp4 {

// Mean cross-entropy in nats of predicting tokens[:, 1:] from tokens[:, :-1], tokens int64 [sequences, T + 1].
// `parameters`: FP32 by the names of Transformer::parameters(). Differentiable in each.
at::Tensor reference_loss(const ModelConfig& config, const std::map<std::string, at::Tensor>& parameters,
                          const at::Tensor& tokens);

}  // namespace ufp4
