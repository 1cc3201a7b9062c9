// AdamW over FP32 master weights, with the gradient clipped by its global norm.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "model/transformer.h"

namespace ufp4 {

class AdamW {
 public:
  // The parameters' own storage is updated. Weight decay applies to those that ask for it.
  AdamW(std::vector<NamedParameter> parameters, const OptimizerSettings& settings);

  void set_learning_rate(double lr);

  // One update, on the device alone: nothing waits, and all that varies from update to update is in device memory. If
  // `loss` or the norm of the gradient is not finite, nothing is changed. The gradients are gone afterwards, so that
  // the next forward pass has their memory.
  void update(const at::Tensor& loss);

  // Of the last update: the loss, and the norm of the gradient before clipping. One transfer, the step's only wait.
  struct Result {
    double loss = 0;
    double grad_norm = 0;
    bool skipped = false;
  };
  Result result() const;

  // Name and tensor of everything that a checkpoint must hold: the moments of each parameter, and the number of
  // updates.
  std::vector<std::pair<std::string, at::Tensor>> state() const;

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<at::Tensor> weights, gradients, mean, square, steps;
  };

  void take_gradients();

  std::vector<NamedParameter> parameters_;
  OptimizerSettings settings_;
  std::vector<Group> groups_;
  std::vector<std::pair<std::string, at::Tensor>> state_;
  at::Tensor updates_;        // FP32 scalar, shared by all parameters: the updates that were not skipped
  at::Tensor learning_rate_;  // FP32 scalar
  at::Tensor report_;         // FP32: loss, norm of the gradient, whether the update was skipped
};

}  // namespace ufp4
