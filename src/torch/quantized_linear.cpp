#include "torch/quantized_linear.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "torch/gemm.h"
#include "torch/ops.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call carries beside its tensors, to the backward pass too.
struct LinearCall : torch::CustomClassHolder {
  LinearCall(std::shared_ptr<const Recipe> r, std::uint32_t n, const RandomContext& c, Stash s)
      : recipe(std::move(r)), number(n), context(c), stash(s) {}

  std::shared_ptr<const Recipe> recipe;
  std::uint32_t number;
  RandomContext context;
  Stash stash;
};

ops::OperandArgs operand_args(const GemmRecipe& gemm, std::size_t operand, std::uint32_t number, Operand stream) {
  const OperandRecipe& recipe = gemm.operand[operand];
  return {recipe.format, recipe.block, gemm.hadamard, recipe.rounding, stream_of(number, stream)};
}

// x and dy are [tokens, features]: the token offset is the offset of their rows.
ops::RandomArgs random_args(const RandomContext& context, std::uint32_t token_offset) {
  return {context.seed, context.seed, context.step, token_offset, 0};
}

// y, and what the backward pass needs of x: codes and scales, x itself, or nothing.
struct FpropResult {
  at::Tensor y;
  at::Tensor kept;
  at::Tensor kept_scales;
};

FpropResult fprop(const at::Tensor& x, const WeightOperands& weight, const LinearCall& call, bool keep) {
  const Recipe& recipe = *call.recipe;
  const bool quantize_x = recipe[Gemm::kFprop].operand[0].quantized();
  const bool pack = keep && call.stash == Stash::kPacked && recipe[Gemm::kWgrad].operand[1].quantized();
  const ops::OperandArgs fprop_x = operand_args(recipe[Gemm::kFprop], 0, call.number, Operand::kFpropX);
  const ops::OperandArgs wgrad_x = operand_args(recipe[Gemm::kWgrad], 1, call.number, Operand::kWgradX);
  const ops::RandomArgs random = random_args(call.context, call.context.token_offset);

  FpropResult result;
  at::Tensor operand = x;
  if (quantize_x && pack) {
    ops::BothOrientations both = ops::quantize_both(x, fprop_x, wgrad_x, random, true);
    operand = std::move(both.row);
    result.kept = std::move(both.column);
    result.kept_scales = std::move(both.column_scales);
  } else {
    if (quantize_x) operand = ops::quantize_dequantize(x, fprop_x, Axis::kRow, random);
    if (pack) {
      std::tie(result.kept, result.kept_scales) = ops::quantize(x, wgrad_x, Axis::kColumn, random);
    } else if (keep) {
      result.kept = x;
    }
  }
  result.y = matmul_transposed(operand, weight.fprop);
  return result;
}

// Q(x^T) of wgrad from what fprop kept.
at::Tensor wgrad_x_operand(const at::Tensor& kept, const at::Tensor& kept_scales, const LinearCall& call) {
  const GemmRecipe& gemm = (*call.recipe)[Gemm::kWgrad];
  const OperandRecipe& operand = gemm.operand[1];
  if (!operand.quantized()) return kept.t();
  if (call.stash == Stash::kPacked) return ops::dequantize(kept, kept_scales, *operand.format, operand.block);
  return ops::quantize_dequantize(kept, operand_args(gemm, 1, call.number, Operand::kWgradX), Axis::kColumn,
                                  random_args(call.context, call.context.token_offset));
}

// Q(dy) of dgrad and Q(dy^T) of wgrad, in one read if both are quantized; undefined where not needed.
struct DyOperands {
  at::Tensor dgrad;
  at::Tensor wgrad;
};

DyOperands dy_operands(const at::Tensor& dy, const LinearCall& call, bool need_dx, bool need_dw) {
  const Recipe& recipe = *call.recipe;
  const bool quantize_dgrad = need_dx && recipe[Gemm::kDgrad].operand[0].quantized();
  const bool quantize_wgrad = need_dw && recipe[Gemm::kWgrad].operand[0].quantized();
  const ops::OperandArgs dgrad = operand_args(recipe[Gemm::kDgrad], 0, call.number, Operand::kDgradDy);
  const ops::OperandArgs wgrad = operand_args(recipe[Gemm::kWgrad], 0, call.number, Operand::kWgradDy);
  const ops::RandomArgs random = random_args(call.context, call.context.token_offset);
  if (quantize_dgrad && quantize_wgrad) {
    ops::BothOrientations both = ops::quantize_both(dy, dgrad, wgrad, random, false);
    return {std::move(both.row), std::move(both.column)};
  }
  DyOperands result;
  if (need_dx) result.dgrad = quantize_dgrad ? ops::quantize_dequantize(dy, dgrad, Axis::kRow, random) : dy;
  if (need_dw) result.wgrad = quantize_wgrad ? ops::quantize_dequantize(dy, wgrad, Axis::kColumn, random) : dy.t();
  return result;
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& fprop_weight, const at::Tensor& dgrad_weight,
                            const c10::intrusive_ptr<LinearCall>& call) {
    FpropResult result = fprop(x, {fprop_weight, dgrad_weight}, *call, weight.requires_grad());
    ctx->save_for_backward({result.kept, result.kept_scales, x.requires_grad() ? dgrad_weight : at::Tensor()});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->saved_data["weight_dtype"] = weight.scalar_type();
    return result.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto call = c10::static_intrusive_pointer_cast<LinearCall>(ctx->saved_data["call"].toCapsule());
    variable_list saved = ctx->get_saved_variables();
    variable_list result(5);  // one for every argument of forward
    if (!gradients[0].defined()) return result;
    const bool need_dx = ctx->needs_input_grad(0);
    const bool need_dw = ctx->needs_input_grad(1);
    DyOperands dy = dy_operands(gradients[0], *call, need_dx, need_dw);
    if (need_dx) result[0] = matmul_transposed(dy.dgrad, saved[2]);
    dy.dgrad.reset();
    if (need_dw) {
      const at::Tensor x = wgrad_x_operand(saved[0], saved[1], *call);
      result[1] = matmul_transposed(dy.wgrad, x).to(ctx->saved_data["weight_dtype"].toScalarType());
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

WeightOperands prepare_weight(const at::Tensor& weight, const Recipe& recipe, std::uint32_t number,
                              const RandomContext& context) {
  const at::NoGradGuard no_grad;
  const at::Tensor bf16 = weight.detach().to(at::kBFloat16);
  const bool quantize_fprop = recipe[Gemm::kFprop].operand[1].quantized();
  const bool quantize_dgrad = recipe[Gemm::kDgrad].operand[1].quantized();
  const ops::OperandArgs fprop = operand_args(recipe[Gemm::kFprop], 1, number, Operand::kFpropW);
  const ops::OperandArgs dgrad = operand_args(recipe[Gemm::kDgrad], 1, number, Operand::kDgradW);
  const ops::RandomArgs random = random_args(context, 0);
  if (quantize_fprop && quantize_dgrad) {
    ops::BothOrientations both = ops::quantize_both(bf16, fprop, dgrad, random, false);
    return {std::move(both.row), std::move(both.column)};
  }
  return {quantize_fprop ? ops::quantize_dequantize(bf16, fprop, Axis::kRow, random) : bf16,
          quantize_dgrad ? ops::quantize_dequantize(bf16, dgrad, Axis::kColumn, random) : bf16.t()};
}

at::Tensor quantized_linear(const at::Tensor& x, const at::Tensor& weight, const WeightOperands& operands,
                            const std::shared_ptr<const Recipe>& recipe, std::uint32_t number,
                            const RandomContext& context, Stash stash) {
  check(x, weight);
  const at::Tensor x_2d = x.dim() == 2 ? x : x.reshape_symint({-1, x.sym_size(-1)});
  const auto call = c10::make_intrusive<LinearCall>(recipe, number, context, stash);
  at::Tensor y;
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    y = LinearFunction::apply(x_2d, weight, operands.fprop, operands.dgrad, call);
  } else {
    y = fprop(x_2d, operands, *call, false).y;
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

QuantizedLinear::QuantizedLinear(std::string name, std::uint32_t number, const Recipe& recipe, Stash stash)
    : name_(std::move(name)), number_(number), stash_(stash) {
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
    prepared_ = std::make_shared<PreparedWeight>(PreparedWeight{prepare_weight(weight, *recipe_, number_, context),
                                                                context.seed, context.step, weight.const_data_ptr(),
                                                                static_cast<std::uint32_t>(weight._version())});
    ++preparations_;
  }
  return prepared_->operands;
}

at::Tensor QuantizedLinear::forward(const at::Tensor& x, const at::Tensor& weight, const RandomContext& context) {
  check(x, weight);
  return quantized_linear(x, weight, prepare(weight, context), recipe_, number_, context, stash_);
}

}  // namespace ufp4
