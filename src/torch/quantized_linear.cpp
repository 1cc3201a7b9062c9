#include "torch/quantized_linear.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>

#include <utility>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call carries beside the tensors that autograd saves, to the backward pass too.
struct CallHolder : torch::CustomClassHolder {
  CallHolder(LinearCall c, LinearWeight w, at::Tensor leaf)
      : call(std::move(c)), weight(std::move(w)), gradient_leaf(std::move(leaf)) {}

  LinearCall call;
  LinearWeight weight;
  at::Tensor gradient_leaf;
};

// What is kept for the backward pass, as tensors that autograd saves.
variable_list tensors_of(const QuantizedTensor& kept) {
  return {kept.values, kept.codes, kept.scales, kept.outer_scales};
}

QuantizedTensor from_tensors(Form form, const variable_list& all, std::size_t first) {
  return {form, all[first], all[first + 1], all[first + 2], all[first + 3]};
}

// The gradients as they are; differentiating them once more raises.
void forbid_second_derivative(variable_list& gradients) {
  if (!at::GradMode::is_enabled()) return;
  for (at::Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    const auto error = std::make_shared<torch::autograd::DelayedError>(
        "ufp4: the quantized linear cannot be differentiated twice: rounding has no second derivative", 1);
    gradient = (*error)({gradient})[0];
  }
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const c10::intrusive_ptr<CallHolder>& holder) {
    const FpropResult result = fprop(Source::matrix(x), holder->weight, holder->call, weight.requires_grad());
    const QuantizedTensor dgrad_weight = x.requires_grad() ? holder->weight.kept.dgrad : QuantizedTensor{};
    variable_list saved = tensors_of(result.kept);
    for (at::Tensor& part : tensors_of(dgrad_weight)) saved.push_back(std::move(part));
    ctx->save_for_backward(std::move(saved));
    holder->weight.kept = {};  // what is saved ends with the backward pass
    ctx->saved_data["call"] = c10::IValue::make_capsule(holder);
    ctx->saved_data["kept_form"] = static_cast<std::int64_t>(result.kept.form);
    ctx->saved_data["dgrad_form"] = static_cast<std::int64_t>(dgrad_weight.form);
    ctx->saved_data["weight_dtype"] = weight.scalar_type();
    return result.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    variable_list result(3);  // one for every argument of forward
    if (!gradients[0].defined()) return result;
    {
      const at::NoGradGuard no_grad;
      const auto form_of = [&](const char* name) { return static_cast<Form>(ctx->saved_data[name].toInt()); };
      const auto holder = c10::static_intrusive_pointer_cast<CallHolder>(ctx->saved_data["call"].toCapsule());
      const LinearCall& call = holder->call;
      const variable_list saved = ctx->get_saved_variables();
      const bool want_dx = ctx->needs_input_grad(0);
      const bool want_dw = ctx->needs_input_grad(1);
      DyOperands dy = quantize_dy(Source::matrix(gradients[0]), call, want_dx, want_dw);
      if (want_dx) {
        LinearWeight weight = holder->weight;
        weight.kept.dgrad = from_tensors(form_of("dgrad_form"), saved, 4);
        result[0] = dgrad(dy.dgrad, weight, call);
      }
      dy.dgrad = {};
      if (want_dw) {
        const QuantizedTensor x = wgrad_x(from_tensors(form_of("kept_form"), saved, 0), call);
        if (holder->gradient_leaf.defined()) {
          wgrad_into(holder->gradient_leaf, dy.wgrad, x, call);
        } else {
          result[1] = wgrad(dy.wgrad, x, call, ctx->saved_data["weight_dtype"].toScalarType());
        }
      }
    }
    forbid_second_derivative(result);
    return result;
  }
};

void check(const at::Tensor& x, const at::Tensor& weight) {
  const auto fail = [](const std::string& message) { throw InputError("quantized linear: " + message); };
  if (x.scalar_type() != at::kBFloat16)
    fail(std::string("x is ") + c10::toString(x.scalar_type()) + ", expected BFloat16");
  if (weight.scalar_type() != at::kFloat && weight.scalar_type() != at::kBFloat16) {
    fail(std::string("the weight is ") + c10::toString(weight.scalar_type()) + ", expected Float or BFloat16");
  }
  check_shapes("quantized linear", x, weight);
}

}  // namespace

at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const LinearWeight& use,
                            const LinearCall& call, const at::Tensor& gradient_leaf) {
  check(x, weight);
  const at::Tensor x_2d = x.dim() == 2 ? x : x.reshape_symint({-1, x.sym_size(-1)});
  at::Tensor y;
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    y = LinearFunction::apply(x_2d, weight, c10::make_intrusive<CallHolder>(call, use, gradient_leaf));
  } else {
    y = fprop(Source::matrix(x_2d), use, call, false).y;
  }
  if (x.dim() == 2) return y;
  std::vector<c10::SymInt> shape = x.sym_sizes().vec();
  shape.back() = weight.sym_size(0);
  return y.view_symint(shape);
}

struct QuantizedLinear::PreparedWeight {
  WeightOperands operands;
  std::uint64_t seed;
  std::uint32_t step;
  const void* data;
  std::uint32_t version;  // of the tensor: an in-place change of the weight counts it up

  bool matches(const at::Tensor& weight, const RandomContext& context) const {
    return seed == context.seed && step == context.step && data == weight.const_data_ptr() &&
           version == weight._version();
  }
};

QuantizedLinear::QuantizedLinear(std::string name, std::uint32_t number, const Recipe& recipe,
                                 const LinearOptions& options)
    : name_(std::move(name)), number_(number), options_(options) {
  validate(recipe);
  if (recipe.quantized() && recipe.keeps_bf16(name_)) {
    Recipe bf16;
    bf16.keep_bf16 = recipe.keep_bf16;
    recipe_ = std::make_shared<const Recipe>(std::move(bf16));
  } else {
    recipe_ = std::make_shared<const Recipe>(recipe);
  }
}

LinearCall QuantizedLinear::call(const RandomContext& context) const {
  return {recipe_, options_.products, number_, context, options_.stash};
}

LinearWeight QuantizedLinear::use(const at::Tensor& weight, const RandomContext& context) {
  LinearWeight result{weight.detach(), {}};
  if (options_.life == WeightLife::kPass && quantizes_weight(*recipe_)) return result;
  if (prepared_ == nullptr || !prepared_->matches(weight, context)) {
    prepared_.reset();  // before the new one takes memory
    prepared_ = std::make_shared<PreparedWeight>(PreparedWeight{prepare_weight(weight, call(context)), context.seed,
                                                                context.step, weight.const_data_ptr(),
                                                                static_cast<std::uint32_t>(weight._version())});
    ++preparations_;
  }
  result.kept = prepared_->operands;
  return result;
}

at::Tensor QuantizedLinear::gradient_leaf(const at::Tensor& weight) const {
  const bool in_place = options_.gradient == WeightGradient::kInPlace && weight.requires_grad() && weight.is_leaf();
  return in_place && weight.scalar_type() == at::kFloat ? weight : at::Tensor();
}

at::Tensor QuantizedLinear::forward(const at::Tensor& x, const at::Tensor& weight, const RandomContext& context) {
  check(x, weight);
  return quantized_linear(x, weight, use(weight, context), call(context), gradient_leaf(weight));
}

}  // namespace ufp4
