#include "model/sublayers.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <optional>
#include <utility>

#include "model/attention.h"
#include "torch/layer_passes.h"
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
  LinearWeight weight;
  at::Tensor gradient_leaf;  // to whose gradient that of the weight is added; undefined: it is returned to autograd
  QuantizedTensor kept;      // of x

  // Whether the backward pass needs the source once more, instead of something kept.
  bool makes_x_anew() const { return call.stash == Stash::kNone && call.spec(OperandRole::kWgradX).quantized(); }

  at::Tensor forward(const Source& x, bool keep) {
    FpropResult result = fprop(x, weight, call, keep && !makes_x_anew());
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

  // dx, and the gradient of the weight (undefined if it was added in place); `x_source` gives what forward had.
  template <class XSource>
  std::pair<at::Tensor, at::Tensor> backward(const Source& dy_source, XSource x_source) const {
    DyOperands dy = quantize_dy(dy_source, call, true, true);
    at::Tensor dx = dgrad(dy.dgrad, weight, call);
    dy.dgrad = {};
    const QuantizedTensor x = makes_x_anew() ? wgrad_x(x_source(), call) : wgrad_x(kept, call);
    if (!gradient_leaf.defined()) return {dx, wgrad(dy.wgrad, x, call, weight.values.scalar_type())};
    wgrad_into(gradient_leaf, dy.wgrad, x, call);
    return {dx, at::Tensor()};
  }
};

LinearState state_of(Linear& linear, const RandomContext& context) {
  return {linear.layer.call(context),
          linear.layer.use(linear.weight, context),
          linear.layer.gradient_leaf(linear.weight),
          {}};
}

// One call of a sublayer, with what its backward pass needs: not in autograd's list of saved tensors, because none of
// it is differentiated twice.
struct State : torch::CustomClassHolder {
  SublayerOptions options;
  RmsStatistics norm;
  at::Tensor norm_weight;
  LinearState first;
  std::optional<LinearState> second;           // of a feed forward, behind a SwiGLU
  at::Tensor h;                                // the result of the first for the second; undefined if it is not kept
  std::shared_ptr<Offload::Place> place;       // where it waits instead
  std::optional<AttentionSettings> attention;  // behind the first
  Attention attended;

  Source normed() const {
    return options.fused ? Source::rms_norm(norm, norm_weight) : Source::matrix(rms_norm_forward(norm, norm_weight));
  }
  Source activated(const at::Tensor& of) const {
    return options.fused ? Source::swiglu(of) : Source::matrix(swiglu_forward(of));
  }
  Source attention_gradient(const at::Tensor& dy) {
    const Source source = Source::rotary_backward(
        attention_backward(attended, dy.view({attention->sequences, -1, dy.size(1)})), attention->table);
    attended = {};
    return options.fused ? source : Source::matrix(source.compute());
  }
  Source activated_backward(const at::Tensor& dy) const {
    return options.fused ? Source::swiglu_backward(dy, h) : Source::matrix(swiglu_backward(dy, h));
  }

  at::Tensor forward(bool keep) {
    at::Tensor made = first.forward(normed(), keep);
    if (attention) {
      attended = attend(made.view({attention->sequences, -1, made.size(1) / attention->size, attention->size}),
                        attention->table, attention->heads, keep);
      return attended.out.detach().view({made.size(0), -1});
    }
    if (!second) return made;
    if (keep && options.offload != nullptr) place = options.offload->put(options.layer, made);
    if (keep && !options.recompute && place == nullptr) h = made;
    return second->forward(activated(made), keep);
  }

  // Of the norm's result and of the weights, of which those that were added in place are undefined.
  struct Gradients {
    at::Tensor normed;
    at::Tensor first;
    at::Tensor second;
  };
  Gradients backward(const at::Tensor& dy) {
    const auto norm_source = [this] { return normed(); };
    if (!second) {
      auto [dnormed, dfirst] = first.backward(attention ? attention_gradient(dy) : Source::matrix(dy), norm_source);
      return {std::move(dnormed), std::move(dfirst), {}};
    }
    if (options.offload != nullptr) {
      const at::Tensor back = options.offload->get(options.layer, place);
      if (back.defined()) h = back;
      place.reset();
    }
    if (!h.defined()) h = first.repeat(normed());
    auto [dactivated, dsecond] = second->backward(Source::matrix(dy), [this] { return activated(h); });
    auto [dnormed, dfirst] = first.backward(activated_backward(dactivated), norm_source);
    return {std::move(dnormed), std::move(dfirst), std::move(dsecond)};
  }
};

using StatePointer = c10::intrusive_ptr<State>;

// x, branch, weights of the norm, of the first linear and of the second.
class Sublayer : public torch::autograd::Function<Sublayer> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& /*x*/, const std::optional<at::Tensor>& branch,
                               const at::Tensor& /*norm_weight*/, const at::Tensor& /*first*/,
                               const std::optional<at::Tensor>& /*second*/, const StatePointer& state) {
    const at::Tensor y = state->forward(true);
    const at::Tensor sum = state->norm.x;
    state->norm.x = sum.detach();  // the state must not share its tensors with autograd's
    ctx->saved_data["branch"] = branch.has_value();
    ctx->saved_data["state"] = c10::IValue::make_capsule(state);
    return {sum, y};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const bool branch = ctx->saved_data["branch"].toBool();
    const auto state = c10::static_intrusive_pointer_cast<State>(ctx->saved_data["state"].toCapsule());
    ctx->saved_data.clear();  // what is kept ends with this call
    const auto [dnormed, dfirst, dsecond] = state->backward(gradients[1]);
    const RmsNormGradients norm = rms_norm_backward(dnormed, state->norm, state->norm_weight, gradients[0]);
    return {norm.dx, branch ? norm.dx : at::Tensor(), norm.dweight, dfirst, dsecond, {}};
  }
};

// At most one of `second` and `attention`; both may be null.
Residual apply(const Residual& in, const at::Tensor& norm_weight, Linear& first, Linear* second,
               const AttentionSettings* attention, const RandomContext& context, const SublayerOptions& options) {
  const bool differentiate = at::GradMode::is_enabled();
  const at::NoGradGuard no_grad;
  const auto state = c10::make_intrusive<State>();
  state->options = options;
  state->norm = rms_statistics(in.x, in.branch, options.epsilon);
  state->norm_weight = norm_weight.detach();
  state->first = state_of(first, context);
  if (second != nullptr) state->second = state_of(*second, context);
  if (attention != nullptr) state->attention = *attention;
  if (!differentiate) return {state->norm.x, state->forward(false)};
  const at::AutoGradMode with_gradients(true);
  const auto given = [](const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; };
  const variable_list out = Sublayer::apply(in.x, given(in.branch), norm_weight, first.weight,
                                            given(second != nullptr ? second->weight : at::Tensor()), state);
  return {out[0], out[1]};
}

}  // namespace

Residual norm_linear(const Residual& in, const at::Tensor& norm_weight, Linear& linear, const RandomContext& context,
                     const SublayerOptions& options) {
  return apply(in, norm_weight, linear, nullptr, nullptr, context, options);
}

Residual norm_attention(const Residual& in, const at::Tensor& norm_weight, Linear& qkv,
                        const AttentionSettings& attention, const RandomContext& context,
                        const SublayerOptions& options) {
  return apply(in, norm_weight, qkv, nullptr, &attention, context, options);
}

Residual feed_forward(const Residual& in, const at::Tensor& norm_weight, Linear& fc1, Linear& fc2,
                      const RandomContext& context, const SublayerOptions& options) {
  return apply(in, norm_weight, fc1, &fc2, nullptr, context, options);
}

}  // namespace ufp4
