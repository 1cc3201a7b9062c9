#include "model/sublayers.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>

#include "torch/gemm.h"
#include "torch/layer_passes.h"
#include "torch/linear_observer.h"
#include "torch/linear_passes.h"
#include "torch/source.h"
#include "torch/window.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A linear in one call, and what its backward pass needs.
struct LinearState {
  LinearCall call;
  WeightOperands weight;
  at::Tensor gradient;  // where the weight's gradient is added; undefined: it is returned to autograd
  KeptInput kept;

  at::Tensor forward(const Source& x, bool keep) {
    FpropResult result = fprop(x, weight, call, keep);
    kept = std::move(result.kept);
    return result.y;
  }

  // The result of an earlier forward(x, ..) once more, to the bit; nobody is told of it.
  at::Tensor repeat(const Source& x) const {
    LinearCall again = call;
    again.context.observer = nullptr;
    std::optional<Windows> frozen;
    if (call.context.windows != nullptr) again.context.windows = &frozen.emplace(call.context.windows->frozen());
    return fprop(x, weight, again, false).y;
  }

  // dx, and the gradient of the weight (undefined if it was added in place).
  std::pair<at::Tensor, at::Tensor> backward(const Source& source) const {
    DyOperands dy = quantize_dy(source, call, true, true);
    at::Tensor dx = matmul_transposed(dy.dgrad, weight.dgrad);
    LinearObserver* const observer = call.context.observer;
    if (observer != nullptr) observer->result(call.number, Gemm::kDgrad, dx);
    dy.dgrad = {};
    const GemmOperand x = wgrad_x(kept, call);
    if (!gradient.defined()) {
      const at::Tensor dw = matmul_transposed_f32(dy.wgrad, x);
      if (observer != nullptr) observer->result(call.number, Gemm::kWgrad, dw);
      return {dx, dw};
    }
    at::Tensor into = gradient;
    matmul_transposed_into(into, dy.wgrad, x, call.accumulate());
    return {dx, {}};
  }
};

LinearState state_of(Linear& linear, const RandomContext& context) {
  return {linear.layer.call(context),
          linear.layer.prepare(linear.weight, context),
          linear.layer.gradient_of(linear.weight),
          {}};
}

// One call of a sublayer, with what its backward pass needs: not in autograd's list of saved tensors, because none of
// it is differentiated twice.
struct State : torch::CustomClassHolder {
  SublayerOptions options;
  RmsStatistics norm;
  at::Tensor norm_weight;
  LinearState first;
  LinearState second;  // feed_forward: fc2
  at::Tensor h;        // feed_forward: the result of fc1; undefined if it is made anew

  Source normed() const {
    return options.fused ? Source::rms_norm(norm, norm_weight) : Source::matrix(rms_norm_forward(norm, norm_weight));
  }
  Source activated(const at::Tensor& of) const {
    return options.fused ? Source::swiglu(of) : Source::matrix(swiglu_forward(of));
  }
  Source activated_backward(const at::Tensor& dy, const at::Tensor& of) const {
    return options.fused ? Source::swiglu_backward(dy, of) : Source::matrix(swiglu_backward(dy, of));
  }
};

using StatePointer = c10::intrusive_ptr<State>;

StatePointer start(const Residual& in, const at::Tensor& norm_weight, const SublayerOptions& options) {
  auto state = c10::make_intrusive<State>();
  state->options = options;
  state->norm = rms_statistics(in.x, in.branch, options.epsilon);
  state->norm_weight = norm_weight.detach();
  return state;
}

at::Tensor norm_linear_forward(State& state, bool keep) { return state.first.forward(state.normed(), keep); }

at::Tensor feed_forward_forward(State& state, bool keep) {
  const at::Tensor h = state.first.forward(state.normed(), keep);
  at::Tensor y = state.second.forward(state.activated(h), keep);
  if (keep && !state.options.recompute) state.h = h;
  return y;
}

// {x + branch, y} of a sublayer, whose tensors the state must not share with autograd's.
variable_list keep(AutogradContext* ctx, const StatePointer& state, const at::Tensor& y) {
  const at::Tensor sum = state->norm.x;
  state->norm.x = sum.detach();
  ctx->saved_data["state"] = c10::IValue::make_capsule(state);
  return {sum, y};
}

StatePointer take(AutogradContext* ctx) {
  auto state = c10::static_intrusive_pointer_cast<State>(ctx->saved_data["state"].toCapsule());
  ctx->saved_data.clear();  // what is kept ends with the backward pass
  return state;
}

// x, branch, norm weight, weight of the linear.
class NormLinear : public torch::autograd::Function<NormLinear> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& /*x*/, const std::optional<at::Tensor>& branch,
                               const at::Tensor& /*norm_weight*/, const at::Tensor& /*weight*/,
                               const StatePointer& state) {
    ctx->saved_data["branch"] = branch.has_value();
    return keep(ctx, state, norm_linear_forward(*state, true));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const bool branch = ctx->saved_data["branch"].toBool();
    const StatePointer state = take(ctx);
    const auto [dnormed, dweight] = state->first.backward(Source::matrix(gradients[1]));
    const RmsNormGradients norm = rms_norm_backward(dnormed, state->norm, state->norm_weight, gradients[0]);
    return {norm.dx, branch ? norm.dx : at::Tensor(), norm.dweight, dweight, {}};
  }
};

// x, branch, norm weight, weights of fc1 and fc2.
class FeedForward : public torch::autograd::Function<FeedForward> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& /*x*/, const std::optional<at::Tensor>& branch,
                               const at::Tensor& /*norm_weight*/, const at::Tensor& /*fc1*/, const at::Tensor& /*fc2*/,
                               const StatePointer& state) {
    ctx->saved_data["branch"] = branch.has_value();
    return keep(ctx, state, feed_forward_forward(*state, true));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const bool branch = ctx->saved_data["branch"].toBool();
    const StatePointer state = take(ctx);
    auto [dactivated, dfc2] = state->second.backward(Source::matrix(gradients[1]));
    if (!state->h.defined()) state->h = state->first.repeat(state->normed());
    const auto [dnormed, dfc1] = state->first.backward(state->activated_backward(dactivated, state->h));
    dactivated.reset();
    const RmsNormGradients norm = rms_norm_backward(dnormed, state->norm, state->norm_weight, gradients[0]);
    return {norm.dx, branch ? norm.dx : at::Tensor(), norm.dweight, dfc1, dfc2, {}};
  }
};

std::optional<at::Tensor> branch_of(const Residual& in) {
  return in.branch.defined() ? std::optional(in.branch) : std::nullopt;
}

}  // namespace

Residual norm_linear(const Residual& in, const at::Tensor& norm_weight, Linear& linear, const RandomContext& context,
                     const SublayerOptions& options) {
  const bool differentiate = at::GradMode::is_enabled();
  const at::NoGradGuard no_grad;
  const StatePointer state = start(in, norm_weight, options);
  state->first = state_of(linear, context);
  if (!differentiate) return {state->norm.x, norm_linear_forward(*state, false)};
  const at::AutoGradMode with_gradients(true);
  const variable_list out = NormLinear::apply(in.x, branch_of(in), norm_weight, linear.weight, state);
  return {out[0], out[1]};
}

Residual feed_forward(const Residual& in, const at::Tensor& norm_weight, Linear& fc1, Linear& fc2,
                      const RandomContext& context, const SublayerOptions& options) {
  const bool differentiate = at::GradMode::is_enabled();
  const at::NoGradGuard no_grad;
  const StatePointer state = start(in, norm_weight, options);
  state->first = state_of(fc1, context);
  state->second = state_of(fc2, context);
  if (!differentiate) return {state->norm.x, feed_forward_forward(*state, false)};
  const at::AutoGradMode with_gradients(true);
  const variable_list out = FeedForward::apply(in.x, branch_of(in), norm_weight, fc1.weight, fc2.weight, state);
  return {out[0], out[1]};
}

}  // namespace ufp4
