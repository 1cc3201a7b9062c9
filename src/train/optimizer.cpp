#include "train/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <stdexcept>

namespace ufp4 {

AdamW::AdamW(std::vector<NamedParameter> parameters, const OptimizerSettings& settings)
    : parameters_(std::move(parameters)), settings_(settings), groups_(2) {
  const at::NoGradGuard no_grad;
  groups_[1].weight_decay = settings_.weight_decay;
  const at::Device device = parameters_.front().tensor.device();
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  updates_ = at::zeros({}, options);
  learning_rate_ = at::zeros({}, options);
  report_ = at::zeros({3}, options);
  for (const NamedParameter& parameter : parameters_) {
    Group& group = groups_[parameter.decay ? 1 : 0];
    group.weights.push_back(parameter.tensor);
    group.mean.push_back(at::zeros_like(parameter.tensor));
    group.square.push_back(at::zeros_like(parameter.tensor));
    group.steps.push_back(updates_);
    state_.emplace_back(parameter.name + ".mean", group.mean.back());
    state_.emplace_back(parameter.name + ".square", group.square.back());
  }
  state_.emplace_back("updates", updates_);
}

// Moves the gradients of all parameters, in the order of the weights, from where the backward pass left them.
void AdamW::take_gradients() {
  for (const NamedParameter& parameter : parameters_) {
    at::Tensor& gradient = parameter.tensor.mutable_grad();
    if (!gradient.defined()) throw std::logic_error("no gradient of " + parameter.name);
    groups_[parameter.decay ? 1 : 0].gradients.push_back(gradient);
    gradient.reset();
  }
}

void AdamW::set_learning_rate(double lr) { learning_rate_.fill_(lr); }

void AdamW::update(const at::Tensor& loss) {
  const at::NoGradGuard no_grad;
  take_gradients();
  std::vector<at::Tensor> norms;
  for (const Group& group : groups_) {
    if (group.gradients.empty()) continue;
    for (at::Tensor& norm : at::_foreach_norm(group.gradients, 2)) norms.push_back(std::move(norm));
  }
  const at::Tensor norm = at::linalg_vector_norm(at::stack(norms));
  const at::Tensor bad = at::isfinite(norm + loss).logical_not().to(at::kFloat);
  // The kernel divides the gradient by this, so clipping costs no pass of its own.
  const at::Tensor divisor = settings_.clip > 0 ? (norm / settings_.clip).clamp_min(1) : at::ones_like(norm);
  updates_ += 1.0 - bad;
  for (Group& group : groups_) {
    if (group.weights.empty()) continue;
    at::_fused_adamw_(group.weights, group.gradients, group.mean, group.square, {}, group.steps, learning_rate_,
                      settings_.beta1, settings_.beta2, group.weight_decay, settings_.epsilon, false, false, divisor,
                      bad);
    // torch's fused update does not count as a change of the weights, and operands prepared from them must not be
    // reused.
    for (const at::Tensor& weight : group.weights) weight.unsafeGetTensorImpl()->bump_version();
    group.gradients.clear();
  }
  report_.copy_(at::stack({loss.to(at::kFloat), norm, bad}));
}

AdamW::Result AdamW::result() const {
  const at::Tensor host = report_.cpu();
  const float* values = host.const_data_ptr<float>();
  return {values[0], values[1], values[2] != 0};
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state() const { return state_; }

}  // namespace ufp4
