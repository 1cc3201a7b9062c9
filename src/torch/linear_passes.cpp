#include "torch/linear_passes.h"

#include <c10/core/GradMode.h>

#include <utility>

#include "torch/gemm.h"
#include "torch/linear_observer.h"
#include "torch/ops.h"

namespace ufp4 {
namespace {

ops::OperandArgs operand_args(const GemmRecipe& gemm, std::size_t operand, std::uint32_t number, Operand stream) {
  const OperandRecipe& recipe = gemm.operand[operand];
  return {recipe.format, recipe.block, gemm.hadamard, recipe.rounding, stream_of(number, stream),
          recipe.outer,  recipe.tau};
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
  if (context.observer != nullptr) {
    context.observer->operand(number, Gemm::kFprop, 1, bf16, Axis::kRow);
    context.observer->operand(number, Gemm::kDgrad, 1, bf16, Axis::kColumn);
  }
  if (quantize_fprop && quantize_dgrad) {
    ops::BothOrientations both = ops::quantize_both(bf16, fprop, dgrad, random, false);
    return {std::move(both.row), std::move(both.column.codes)};
  }
  return {quantize_fprop ? ops::quantize_dequantize(bf16, fprop, Axis::kRow, random) : bf16,
          quantize_dgrad ? ops::quantize_dequantize(bf16, dgrad, Axis::kColumn, random) : bf16.t()};
}

FpropResult fprop(const Source& x, const WeightOperands& weight, const LinearCall& call, bool keep) {
  const Recipe& recipe = *call.recipe;
  const bool quantize_x = recipe[Gemm::kFprop].operand[0].quantized();
  const bool pack = keep && call.stash == Stash::kPacked && recipe[Gemm::kWgrad].operand[1].quantized();
  const ops::OperandArgs fprop_x = operand_args(recipe[Gemm::kFprop], 0, call.number, Operand::kFpropX);
  const ops::OperandArgs wgrad_x = operand_args(recipe[Gemm::kWgrad], 1, call.number, Operand::kWgradX);
  const ops::RandomArgs random = random_args(call.context, call.context.token_offset);
  LinearObserver* const observer = call.context.observer;
  if (observer != nullptr) {
    const at::Tensor matrix = x.compute();
    observer->operand(call.number, Gemm::kFprop, 0, matrix, Axis::kRow);
    observer->operand(call.number, Gemm::kWgrad, 1, matrix, Axis::kColumn);
  }
  FpropResult result;
  if (quantize_x && pack) {
    ops::BothOrientations both = quantize_both(x, fprop_x, wgrad_x, random, true);
    result = {matmul_transposed(both.row, weight.fprop), std::move(both.column)};
    if (observer != nullptr) observer->result(call.number, Gemm::kFprop, result.y);
    return result;
  }
  const at::Tensor matrix = x.compute();
  if (pack) {
    result.kept = ops::quantize(matrix, wgrad_x, Axis::kColumn, random);
  } else if (keep) {
    result.kept.codes = matrix;
  }
  const at::Tensor operand = quantize_x ? ops::quantize_dequantize(matrix, fprop_x, Axis::kRow, random) : matrix;
  result.y = matmul_transposed(operand, weight.fprop);
  if (observer != nullptr) observer->result(call.number, Gemm::kFprop, result.y);
  return result;
}

DyOperands quantize_dy(const Source& dy, const LinearCall& call, bool want_dx, bool want_dw) {
  const Recipe& recipe = *call.recipe;
  const bool quantize_dgrad = want_dx && recipe[Gemm::kDgrad].operand[0].quantized();
  const bool quantize_wgrad = want_dw && recipe[Gemm::kWgrad].operand[0].quantized();
  const ops::OperandArgs dgrad = operand_args(recipe[Gemm::kDgrad], 0, call.number, Operand::kDgradDy);
  const ops::OperandArgs wgrad = operand_args(recipe[Gemm::kWgrad], 0, call.number, Operand::kWgradDy);
  const ops::RandomArgs random = random_args(call.context, call.context.token_offset);
  if (LinearObserver* const observer = call.context.observer; observer != nullptr) {
    const at::Tensor matrix = dy.compute();
    if (want_dx) observer->operand(call.number, Gemm::kDgrad, 0, matrix, Axis::kRow);
    if (want_dw) observer->operand(call.number, Gemm::kWgrad, 0, matrix, Axis::kColumn);
  }
  if (quantize_dgrad && quantize_wgrad) {
    ops::BothOrientations both = quantize_both(dy, dgrad, wgrad, random, false);
    return {std::move(both.row), std::move(both.column.codes)};
  }
  const at::Tensor matrix = dy.compute();
  DyOperands result;
  if (want_dx) result.dgrad = quantize_dgrad ? ops::quantize_dequantize(matrix, dgrad, Axis::kRow, random) : matrix;
  if (want_dw) {
    result.wgrad = quantize_wgrad ? ops::quantize_dequantize(matrix, wgrad, Axis::kColumn, random) : matrix.t();
  }
  return result;
}

at::Tensor wgrad_x(const KeptInput& kept, const LinearCall& call) {
  const GemmRecipe& gemm = (*call.recipe)[Gemm::kWgrad];
  if (!gemm.operand[1].quantized()) return kept.codes.t();
  const ops::OperandArgs args = operand_args(gemm, 1, call.number, Operand::kWgradX);
  if (call.stash == Stash::kPacked) return ops::dequantize(kept, args);
  return ops::quantize_dequantize(kept.codes, args, Axis::kColumn,
                                  random_args(call.context, call.context.token_offset));
}

}  // namespace ufp4
