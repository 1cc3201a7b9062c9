// One optimizer step: every micro-batch forward and backward, then the update. On a GPU all of it is recorded once and
// replayed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "config/run_config.h"
#include "model/transformer.h"
#include "torch/recorded_work.h"
#include "torch/window.h"
#include "train/operand_analysis.h"
#include "train/optimizer.h"

namespace ufp4 {

class TrainingStep {
 public:
  // Keeps references to all. `windows`, where the recipe has operands with a delayed amax, else null.
  TrainingStep(const RunConfig& config, const at::Device& device, Transformer& model, AdamW& optimizer,
               Windows* windows);

  struct Result {
    AdamW::Result update;
    std::int64_t requantized = 0;  // operands that left their window (torch/window.h)
  };

  // tokens [train.batch, T + 1] int32 on the CPU. Waits for the result. `watch`, if not null, measures the operands of
  // the first micro-batch; such a step is not replayed and has the same bits.
  Result run(std::int64_t step, double lr, const at::Tensor& tokens, OperandAnalysis* watch = nullptr);

 private:
  void on_device(const RandomContext& context, OperandAnalysis* watch);

  const RunConfig& config_;
  Transformer& model_;
  AdamW& optimizer_;
  Windows* windows_;
  RecordedWork work_;
  at::Tensor tokens_;  // [train.batch, T + 1] int64 on the device
  at::Tensor step_;    // int32: the number of the step, on the device
};

}  // namespace ufp4
