#include "torch/quantized_linear.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call carries beside its tensors, to the backward pass too.
struct CallHolder : torch::CustomClassHolder {
  CallHolder(LinearCall c, const LinearWeight& w, at::Tensor leaf)
      : call(std::move(c)),
        values(w.values),
        fprop_scale(w.kept.fprop.scale),
        dgrad_scale(w.kept.dgrad.scale),
        gradient_leaf(std::move(leaf)) {}

  LinearCall call;
  at::Tensor values;       // of the weight
  at::Tensor fprop_scale;  // of its operands
  at::Tensor dgrad_scale;
  at::Tensor gradient_leaf;
};

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  // The weight's operands are undefined where the passes make them.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& fprop_weight,
                            const std::optional<at::Tensor>& dgrad_weight,
                            const c10::intrusive_ptr<CallHolder>& holder) {
    const LinearWeight use{holder->values, {{fprop_weight.value_or(at::Tensor()), holder->fprop_scale}, {}}};
    FpropResult result = fprop(Source::matrix(x), use, holder->call, weight.requires_grad());
    ctx->save_for_backward({result.kept.codes, result.kept.scales, result.kept.outer_scales,
                            x.requires_grad() ? dgrad_weight.value_or(at::Tensor()) : at::Tensor()});
    ctx->saved_data["call"] = c10::IValue::make_capsule(holder);
    ctx->saved_data["weight_dtype"] = weight.scalar_type();
    return result.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = c10::static_intrusive_pointer_cast<CallHolder>(ctx->saved_data["call"].toCapsule());
    const LinearCall& call = holder->call;
    variable_list saved = ctx->get_saved_variables();
    variable_list result(5);  // one for every argument of forward
    if (!gradients[0].defined()) return result;
    const bool want_dx = ctx->needs_input_grad(0);
    const bool want_dw = ctx->needs_input_grad(1);
    DyOperands dy = quantize_dy(Source::matrix(gradients[0]), call, want_dx, want_dw);
    if (want_dx) result[0] = dgrad(dy.dgrad, {holder->values, {{}, {saved[3], holder->dgrad_scale}}}, call);
    dy.dgrad = {};
    if (!want_dw) return result;
    const GemmOperand x = wgrad_x({saved[0], saved[1], saved[2]}, call);
    const at::Tensor dw = wgrad(holder->gradient_leaf, dy.wgrad, x, call);
    if (dw.defined()) result[1] = dw.to(ctx->saved_data["weight_dtype"].toScalarType());
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
  if (weight.dim() != 2)
    fail("the weight has " + std::to_string(weight.dim()) + " dimensions, expected a matrix [out, in]");
  if (x.dim() < 1 || x.sym_size(-1) != weight.sym_size(1)) {
    fail("the last dimension of x " + c10::str(x.sym_sizes()) + " is not that of the weight " +
         c10::str(weight.sym_sizes()));
  }
  if (x.device() != weight.device()) fail("x is on " + x.device().str() + ", the weight on " + weight.device().str());
}

}  // namespace

at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const LinearWeight& use,
                            const LinearCall& call, const at::Tensor& gradient_leaf) {
  check(x, weight);
  const at::Tensor x_2d = x.dim() == 2 ? x : x.reshape_symint({-1, x.sym_size(-1)});
  at::Tensor y;
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    const auto given = [](const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; };
    y = LinearFunction::apply(x_2d, weight, given(use.kept.fprop.values), given(use.kept.dgrad.values),
                              c10::make_intrusive<CallHolder>(call, use, gradient_leaf));
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
  return {recipe_, number_, context, options_.stash, options_.path};
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
