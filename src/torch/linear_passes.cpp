#include "torch/linear_passes.h"

#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include <optional>
#include <utility>

#include "torch/gemm.h"
#include "torch/linear_observer.h"
#include "torch/window.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

// Operand 0 or 1 of a GEMM; as `form` or, where that is not given, as its GEMM takes it.
OperandRequest request_of(const LinearCall& call, Gemm gemm, std::size_t operand, Operand place,
                          std::optional<Form> form = std::nullopt) {
  const GemmRecipe& of = (*call.recipe)[gemm];
  const OperandRecipe& recipe = of.operand[operand];
  OperandRequest request;
  request.args = {recipe.format, recipe.block, of.hadamard, recipe.rounding, stream_of(call.number, place),
                  recipe.outer,  recipe.tau};
  request.form = form.value_or(path_of(of, call.path) == GemmPath::kFp8 ? Form::kE4m3 : Form::kBf16);
  if (recipe.amax == AmaxSource::kDelayed && call.context.windows != nullptr) {
    request.window = call.context.windows->at(call.number, place);
  }
  return request;
}

// x and dy are [tokens, features]: the token offset is the offset of their rows.
ops::RandomArgs random_args(const RandomContext& context, std::uint32_t token_offset) {
  return {context.seed,
          context.seed,
          context.step,
          token_offset,
          0,
          context.device_step.defined() ? std::optional(context.device_step) : std::nullopt};
}

GemmOperand quantize_for_gemm(const Source& source, const OperandRequest& request, Axis axis,
                              const ops::RandomArgs& random) {
  return gemm_operand(quantize(source, request, axis, random));
}

// The two operands that are made of a weight.
struct WeightUse {
  Gemm gemm;
  Operand place;
  Axis axis;
};
constexpr WeightUse kFpropWeight{Gemm::kFprop, Operand::kFpropW, Axis::kRow};
constexpr WeightUse kDgradWeight{Gemm::kDgrad, Operand::kDgradW, Axis::kColumn};

bool quantized(const WeightUse& use, const LinearCall& call) { return (*call.recipe)[use.gemm].operand[1].quantized(); }

void tell_of_result(const at::Tensor& result, const LinearCall& call, Gemm gemm) {
  LinearObserver* const observer = call.context.observer;
  if (observer != nullptr) observer->result(call.number, gemm, result);
}

// The weight rounded to BF16; not in memory where a kernel takes it so.
Source weight_source(const at::Tensor& weight, const LinearCall& call) {
  const at::Tensor values = weight.detach();
  const bool never_whole = quantizes_weight(*call.recipe) && values.scalar_type() == at::kFloat;
  return never_whole ? Source::rounded(values) : Source::matrix(values.to(at::kBFloat16));
}

void tell_of_weight(const Source& weight, const LinearCall& call, const WeightUse& use) {
  LinearObserver* const observer = call.context.observer;
  if (observer != nullptr) observer->operand(call.number, use.gemm, 1, weight.compute(), use.axis);
}

GemmOperand weight_operand(const Source& weight, const LinearCall& call, const WeightUse& use) {
  tell_of_weight(weight, call, use);
  if (!quantized(use, call)) {
    const at::Tensor matrix = weight.compute();
    return {use.axis == Axis::kRow ? matrix : matrix.t(), {}};
  }
  return quantize_for_gemm(weight, request_of(call, use.gemm, 1, use.place), use.axis, random_args(call.context, 0));
}

GemmOperand kept_or_made(const GemmOperand& kept, const at::Tensor& weight, const LinearCall& call,
                         const WeightUse& use) {
  if (kept.values.defined()) return kept;
  const at::NoGradGuard no_grad;
  return weight_operand(weight_source(weight, call), call, use);
}

}  // namespace

GemmPath path_of(const GemmRecipe& gemm, GemmPath wanted) {
  for (const OperandRecipe& operand : gemm.operand) {
    const bool e4m3 = operand.quantized() && operand.format->rule == ScaleRule::kPow2Window;
    if (!e4m3 || operand.outer != OuterScale::kTensor) return GemmPath::kEmulated;
  }
  return wanted;
}

bool quantizes_weight(const Recipe& recipe) {
  return recipe[Gemm::kFprop].operand[1].quantized() && recipe[Gemm::kDgrad].operand[1].quantized();
}

GemmOperand LinearWeight::fprop(const LinearCall& call) const {
  return kept_or_made(kept.fprop, values, call, kFpropWeight);
}

GemmOperand LinearWeight::dgrad(const LinearCall& call) const {
  return kept_or_made(kept.dgrad, values, call, kDgradWeight);
}

WeightOperands prepare_weight(const at::Tensor& weight, const LinearCall& call) {
  const at::NoGradGuard no_grad;
  const Source source = weight_source(weight, call);
  if (!quantizes_weight(*call.recipe)) {
    return {weight_operand(source, call, kFpropWeight), weight_operand(source, call, kDgradWeight)};
  }
  tell_of_weight(source, call, kFpropWeight);
  tell_of_weight(source, call, kDgradWeight);
  MadeOperands both = quantize_both(source, request_of(call, Gemm::kFprop, 1, Operand::kFpropW),
                                    request_of(call, Gemm::kDgrad, 1, Operand::kDgradW), random_args(call.context, 0));
  return {gemm_operand(std::move(both.row)), gemm_operand(std::move(both.column))};
}

FpropResult fprop(const Source& x, const LinearWeight& weight, const LinearCall& call, bool keep) {
  const Recipe& recipe = *call.recipe;
  const bool quantize_x = recipe[Gemm::kFprop].operand[0].quantized();
  const bool pack = keep && call.stash == Stash::kPacked && recipe[Gemm::kWgrad].operand[1].quantized();
  const OperandRequest fprop_x = request_of(call, Gemm::kFprop, 0, Operand::kFpropX);
  const OperandRequest wgrad_x = request_of(call, Gemm::kWgrad, 1, Operand::kWgradX, Form::kPacked);
  const ops::RandomArgs random = random_args(call.context, call.context.token_offset);
  LinearObserver* const observer = call.context.observer;
  if (observer != nullptr) {
    const at::Tensor matrix = x.compute();
    observer->operand(call.number, Gemm::kFprop, 0, matrix, Axis::kRow);
    observer->operand(call.number, Gemm::kWgrad, 1, matrix, Axis::kColumn);
  }
  FpropResult result;
  GemmOperand operand;
  if (quantize_x && pack) {
    MadeOperands both = quantize_both(x, fprop_x, wgrad_x, random);
    operand = gemm_operand(std::move(both.row));
    result.kept = std::move(both.column);
  } else if (quantize_x && !keep) {
    operand = quantize_for_gemm(x, fprop_x, Axis::kRow, random);
  } else {
    const at::Tensor matrix = x.compute();
    if (pack) {
      result.kept = quantize(Source::matrix(matrix), wgrad_x, Axis::kColumn, random);
    } else if (keep) {
      result.kept.codes = matrix;
    }
    operand =
        quantize_x ? quantize_for_gemm(Source::matrix(matrix), fprop_x, Axis::kRow, random) : GemmOperand{matrix, {}};
  }
  result.y = matmul_transposed(operand, weight.fprop(call));
  tell_of_result(result.y, call, Gemm::kFprop);
  return result;
}

DyOperands quantize_dy(const Source& dy, const LinearCall& call, bool want_dx, bool want_dw) {
  const Recipe& recipe = *call.recipe;
  const bool quantize_dgrad = want_dx && recipe[Gemm::kDgrad].operand[0].quantized();
  const bool quantize_wgrad = want_dw && recipe[Gemm::kWgrad].operand[0].quantized();
  const OperandRequest dgrad = request_of(call, Gemm::kDgrad, 0, Operand::kDgradDy);
  const OperandRequest wgrad = request_of(call, Gemm::kWgrad, 0, Operand::kWgradDy);
  const ops::RandomArgs random = random_args(call.context, call.context.token_offset);
  if (LinearObserver* const observer = call.context.observer; observer != nullptr) {
    const at::Tensor matrix = dy.compute();
    if (want_dx) observer->operand(call.number, Gemm::kDgrad, 0, matrix, Axis::kRow);
    if (want_dw) observer->operand(call.number, Gemm::kWgrad, 0, matrix, Axis::kColumn);
  }
  if (quantize_dgrad && quantize_wgrad) {
    MadeOperands both = quantize_both(dy, dgrad, wgrad, random);
    return {gemm_operand(std::move(both.row)), gemm_operand(std::move(both.column))};
  }
  const at::Tensor matrix = dy.compute();
  DyOperands result;
  if (want_dx) {
    result.dgrad =
        quantize_dgrad ? quantize_for_gemm(Source::matrix(matrix), dgrad, Axis::kRow, random) : GemmOperand{matrix, {}};
  }
  if (want_dw) {
    result.wgrad = quantize_wgrad ? quantize_for_gemm(Source::matrix(matrix), wgrad, Axis::kColumn, random)
                                  : GemmOperand{matrix.t(), {}};
  }
  return result;
}

GemmOperand wgrad_x(const KeptInput& kept, const LinearCall& call) {
  if (!(*call.recipe)[Gemm::kWgrad].operand[1].quantized()) return {kept.codes.t(), {}};
  if (call.stash == Stash::kNone) return wgrad_x(Source::matrix(kept.codes), call);
  const OperandRequest request = request_of(call, Gemm::kWgrad, 1, Operand::kWgradX);
  return unpack(kept, request.args, request.form);
}

GemmOperand wgrad_x(const Source& x, const LinearCall& call) {
  return quantize_for_gemm(x, request_of(call, Gemm::kWgrad, 1, Operand::kWgradX), Axis::kColumn,
                           random_args(call.context, call.context.token_offset));
}

at::Tensor dgrad(const GemmOperand& dy, const LinearWeight& weight, const LinearCall& call) {
  at::Tensor dx = matmul_transposed(dy, weight.dgrad(call));
  tell_of_result(dx, call, Gemm::kDgrad);
  return dx;
}

at::Tensor wgrad(const at::Tensor& leaf, const GemmOperand& dy, const GemmOperand& x, const LinearCall& call) {
  if (!leaf.defined()) {
    at::Tensor dw = matmul_transposed_f32(dy, x);
    tell_of_result(dw, call, Gemm::kWgrad);
    return dw;
  }
  at::Tensor& gradient = leaf.mutable_grad();
  const bool begins = call.context.token_offset == 0 || !gradient.defined();
  if (begins) gradient = at::empty_like(leaf.detach());
  matmul_transposed_into(gradient, dy, x, begins ? Accumulate::kOverwrite : Accumulate::kAdd);
  if (begins) tell_of_result(gradient, call, Gemm::kWgrad);
  return {};
}

}  // namespace ufp4
