#include "train/training_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "torch/phase.h"

namespace ufp4 {

TrainingStep::TrainingStep(const RunConfig& config, const at::Device& device, Transformer& model, AdamW& optimizer,
                           Windows* windows)
    : config_(config),
      model_(model),
      optimizer_(optimizer),
      windows_(windows),
      work_(device, config.train.graph == Replay::kOn),
      tokens_(at::empty({config.train.batch, config.model.context + 1},
                        at::TensorOptions().dtype(at::kLong).device(device))),
      step_(at::zeros({1}, at::TensorOptions().dtype(at::kInt).device(device))) {}

TrainingStep::Result TrainingStep::run(std::int64_t step, double lr, const at::Tensor& tokens, OperandAnalysis* watch) {
  tokens_.copy_(tokens);
  step_.fill_(step);
  optimizer_.set_learning_rate(lr);
  const RandomContext context{.seed = static_cast<std::uint64_t>(config_.train.seed),
                              .step = static_cast<std::uint32_t>(step),
                              .device = {.step = tokens_.is_cpu() ? at::Tensor() : step_},
                              .windows = windows_};
  if (watch != nullptr) {
    on_device(context, watch);
  } else {
    const Phase phase("step");  // all that a profiler sees of a replay
    work_.run([&] { on_device(context, nullptr); });
  }
  return {optimizer_.result(), windows_ != nullptr ? windows_->left().sum().item<std::int64_t>() : 0};
}

void TrainingStep::on_device(const RandomContext& context, OperandAnalysis* watch) {
  const std::int64_t micro_batch = config_.train.micro_batch;
  const std::int64_t micro_batches = config_.train.batch / micro_batch;
  if (windows_ != nullptr) windows_->begin_step();
  at::Tensor total = at::zeros({}, tokens_.options().dtype(at::kFloat));
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    RandomContext place = context;
    place.token_offset = static_cast<std::uint32_t>(i * micro_batch * config_.model.context);
    place.micro_batch = static_cast<std::uint32_t>(i);
    if (i == 0 && watch != nullptr) place = watch->watch(place);
    const at::Tensor loss = [&] {
      const Phase phase("forward");
      return model_.loss(tokens_.narrow(0, i * micro_batch, micro_batch), place) / static_cast<double>(micro_batches);
    }();
    const Phase phase("backward");
    loss.backward();
    total += loss.detach();
  }
  const Phase phase("optimizer");
  optimizer_.update(total);
}

}  // namespace ufp4
