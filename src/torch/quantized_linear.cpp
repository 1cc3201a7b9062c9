#include "torch/quantized_linear.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "torch/gemm.h"
#include "torch/linear_observer.h"
#include "torch/ops.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call carries beside its tensors, to the backward pass too.
struct CallHolder : torch::CustomClassHolder {
  CallHolder(LinearCall c, const WeightOperands& w, at::Tensor g)
      : call(std::move(c)), fprop_scale(w.fprop.scale), dgrad_scale(w.dgrad.scale), gradient(std::move(g)) {}

  LinearCall call;
  at::Tensor fprop_scale;  // of the weight's operands
  at::Tensor dgrad_scale;
  at::Tensor gradient;  // where the weight's gradient is added in the backward pass; undefined: it is returned
};

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& fprop_weight, const at::Tensor& dgrad_weight,
                            const c10::intrusive_ptr<CallHolder>& holder) {
    const WeightOperands operands{{fprop_weight, holder->fprop_scale}, {dgrad_weight, holder->dgrad_scale}};
    FpropResult result = fprop(Source::matrix(x), operands, holder->call, weight.requires_grad());
    ctx->save_for_backward({result.kept.codes, result.kept.scales, result.kept.outer_scales,
                            x.requires_grad() ? dgrad_weight : at::Tensor()});
    ctx->saved_data["call"] = c10::IValue::make_capsule(holder);
    ctx->saved_data["weight_dtype"] = weight.scalar_type();
    return result.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = c10::static_intrusive_pointer_cast<CallHolder>(ctx->saved_data["call"].toCapsule());
    variable_list saved = ctx->get_saved_variables();
    variable_list result(5);  // one for every argument of forward
    if (!gradients[0].defined()) return result;
    const bool want_dx = ctx->needs_input_grad(0);
    const bool want_dw = ctx->needs_input_grad(1);
    DyOperands dy = quantize_dy(Source::matrix(gradients[0]), holder->call, want_dx, want_dw);
    LinearObserver* const observer = holder->call.context.observer;
    if (want_dx) {
      result[0] = matmul_transposed(dy.dgrad, {saved[3], holder->dgrad_scale});
      if (observer != nullptr) observer->result(holder->call.number, Gemm::kDgrad, result[0]);
    }
    dy.dgrad = {};
    if (!want_dw) return result;
    const GemmOperand x = wgrad_x({saved[0], saved[1], saved[2]}, holder->call);
    if (holder->gradient.defined()) {
      matmul_transposed_into(holder->gradient, dy.wgrad, x, holder->call.accumulate());
    } else {
      const at::Tensor dw = matmul_transposed_f32(dy.wgrad, x);
      if (observer != nullptr) observer->result(holder->call.number, Gemm::kWgrad, dw);
      result[1] = dw.to(ctx->saved_data["weight_dtype"].toScalarType());
    }
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

at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const WeightOperands& operands,
                            const LinearCall& call, const at::Tensor& gradient) {
  check(x, weight);
  const at::Tensor x_2d = x.dim() == 2 ? x : x.reshape_symint({-1, x.sym_size(-1)});
  at::Tensor y;
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    y = LinearFunction::apply(x_2d, weight, operands.fprop.values, operands.dgrad.values,
                              c10::make_intrusive<CallHolder>(call, operands, gradient));
  } else {
    y = fprop(Source::matrix(x_2d), operands, call, false).y;
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

QuantizedLinear::QuantizedLinear(std::string name, std::uint32_t number, const Recipe& recipe, Stash stash,
                                 WeightGradient gradient, GemmPath path)
    : name_(std::move(name)), number_(number), stash_(stash), gradient_(gradient), path_(path) {
  validate(recipe);
  if (recipe.quantized() && recipe.keeps_bf16(name_)) {
    Recipe bf16;
    bf16.keep_bf16 = recipe.keep_bf16;
    recipe_ = std::make_shared<const Recipe>(std::move(bf16));
  } else {
    recipe_ = std::make_shared<const Recipe>(recipe);
  }
}

const WeightOperands& QuantizedLinear::prepare(const at::Tensor& weight, const RandomContext& context) {
  if (prepared_ == nullptr || !prepared_->matches(weight, context)) {
    prepared_.reset();  // before the new one takes memory
    prepared_ = std::make_shared<PreparedWeight>(PreparedWeight{prepare_weight(weight, call(context)), context.seed,
                                                                context.step, weight.const_data_ptr(),
                                                                static_cast<std::uint32_t>(weight._version())});
    ++preparations_;
  }
  return prepared_->operands;
}

at::Tensor QuantizedLinear::gradient_of(const at::Tensor& weight) const {
  return gradient_ == WeightGradient::kInPlace && weight.requires_grad() ? weight.grad() : at::Tensor();
}

at::Tensor QuantizedLinear::forward(const at::Tensor& x, const at::Tensor& weight, const RandomContext& context) {
  check(x, weight);
  return quantized_linear(x, weight, prepare(weight, context), call(context), gradient_of(weight));
}

}  // namespace ufp4
