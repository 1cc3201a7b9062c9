#include "torch/linear_passes.h"

#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include <string>
#include <utility>

#include "torch/linear_observer.h"
#include "torch/rotated.h"
#include "torch/window.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

// Where an operand of the call stands: x and dy are [tokens, features], so the first token is the first of their rows,
// and the weight is [out, in].
TensorPlace place_of(const LinearCall& call, OperandRole role) {
  const RandomContext& context = call.context;
  TensorPlace at;
  at.place = {
      .axis = axis_of(role), .seed = context.seed, .step = context.step, .stream = stream_of(call.number, role)};
  at.device = context.device;
  if (is_weight(role)) at.device.first_token = at::Tensor();
  const bool of_dy = role == OperandRole::kDgradDy || role == OperandRole::kWgradDy;
  const std::uint32_t rows = is_weight(role) ? call.features.out : context.token_offset;
  const std::uint32_t columns = of_dy ? call.features.out : call.features.in;
  const bool along_rows = at.place.axis == Axis::kRow;
  at.place.row_offset = along_rows ? rows : columns;
  at.place.column_offset = along_rows ? columns : rows;
  return at;
}

OperandRequest request_of(const LinearCall& call, OperandRole role, Form form) {
  OperandRequest request{call.spec(role), place_of(call, role), form, {}};
  if (request.spec.outer.amax == AmaxSource::kDelayed && call.context.windows != nullptr) {
    request.window = call.context.windows->at(call.number, role);
  }
  return request;
}

// As the operand's GEMM takes it.
OperandRequest request_of(const LinearCall& call, OperandRole role, const at::Device& device) {
  return request_of(call, role, call.product(gemm_of(role), device).form);
}

void tell_of_operand(const LinearCall& call, OperandRole role, const at::Tensor& matrix) {
  call.context.observer->operand(call.number, role, matrix);
}

void tell_of_result(const at::Tensor& result, const LinearCall& call, Gemm gemm) {
  if (call.context.observer != nullptr) call.context.observer->result(call.number, gemm, result);
}

// The weight rounded to BF16; not in memory where a kernel takes it so.
Source weight_source(const at::Tensor& weight, const LinearCall& call) {
  const at::Tensor values = weight.detach();
  const bool never_whole = quantizes_weight(*call.recipe) && values.scalar_type() == at::kFloat;
  return never_whole ? Source::rounded(values) : Source::matrix(values.to(at::kBFloat16));
}

// An operand that the recipe leaves in BF16, as its GEMM takes it: transformed if the other one is.
QuantizedTensor plain(const at::Tensor& matrix, const LinearCall& call, OperandRole role) {
  const at::Tensor operand = axis_of(role) == Axis::kRow ? matrix : matrix.t();
  if (!(*call.recipe)[gemm_of(role)].quantized()) return QuantizedTensor::bf16(operand);
  return QuantizedTensor::bf16(rotated(operand, call.spec(role).hadamard, call.context.seed));
}

QuantizedTensor weight_operand(const Source& weight, const LinearCall& call, OperandRole role) {
  if (call.context.observer != nullptr) tell_of_operand(call, role, weight.compute());
  if (!call.spec(role).quantized()) return plain(weight.compute(), call, role);
  return quantize(weight, request_of(call, role, weight.input().device()));
}

QuantizedTensor kept_or_made(const QuantizedTensor& kept, const at::Tensor& weight, const LinearCall& call,
                             OperandRole role) {
  if (kept.given()) return kept;
  const at::NoGradGuard no_grad;
  return weight_operand(weight_source(weight, call), call, role);
}

// One operand of dy.
QuantizedTensor dy_operand(const at::Tensor& dy, const LinearCall& call, OperandRole role) {
  if (!call.spec(role).quantized()) return plain(dy, call, role);
  return quantize(Source::matrix(dy), request_of(call, role, dy.device()));
}

}  // namespace

void check_shapes(std::string_view who, const at::Tensor& x, const at::Tensor& weight) {
  const auto fail = [&](const std::string& message) { throw InputError(std::string(who) + ": " + message); };
  if (weight.dim() != 2)
    fail("the weight has " + std::to_string(weight.dim()) + " dimensions, expected a matrix [out, in]");
  if (x.dim() < 1 || x.sym_size(-1) != weight.sym_size(1)) {
    fail("the last dimension of x " + c10::str(x.sym_sizes()) + " is not that of the weight " +
         c10::str(weight.sym_sizes()));
  }
  if (x.device() != weight.device()) fail("x is on " + x.device().str() + ", the weight on " + weight.device().str());
}

const Product& LinearCall::product(Gemm gemm, const at::Device& device) const {
  return products == nullptr ? emulated_product(device) : (*products)[gemm];
}

bool quantizes_weight(const Recipe& recipe) {
  return recipe[Gemm::kFprop].operand[1].quantized() && recipe[Gemm::kDgrad].operand[1].quantized();
}

QuantizedTensor LinearWeight::fprop(const LinearCall& call) const {
  return kept_or_made(kept.fprop, values, call, OperandRole::kFpropW);
}

QuantizedTensor LinearWeight::dgrad(const LinearCall& call) const {
  return kept_or_made(kept.dgrad, values, call, OperandRole::kDgradW);
}

WeightOperands prepare_weight(const at::Tensor& weight, const LinearCall& call) {
  const at::NoGradGuard no_grad;
  const Source source = weight_source(weight, call);
  if (!quantizes_weight(*call.recipe)) {
    return {weight_operand(source, call, OperandRole::kFpropW), weight_operand(source, call, OperandRole::kDgradW)};
  }
  if (call.context.observer != nullptr) {
    const at::Tensor matrix = source.compute();
    tell_of_operand(call, OperandRole::kFpropW, matrix);
    tell_of_operand(call, OperandRole::kDgradW, matrix);
  }
  const at::Device device = weight.device();
  BothOperands both = quantize_both(source, request_of(call, OperandRole::kFpropW, device),
                                    request_of(call, OperandRole::kDgradW, device));
  return {std::move(both.row), std::move(both.column)};
}

FpropResult fprop(const Source& x, const LinearWeight& weight, const LinearCall& call, bool keep) {
  const bool quantize_x = call.spec(OperandRole::kFpropX).quantized();
  const bool pack = keep && call.stash == Stash::kPacked && call.spec(OperandRole::kWgradX).quantized();
  if (call.context.observer != nullptr) {
    const at::Tensor matrix = x.compute();
    tell_of_operand(call, OperandRole::kFpropX, matrix);
    tell_of_operand(call, OperandRole::kWgradX, matrix);
  }
  const at::Device device = x.input().device();
  const OperandRequest fprop_x = request_of(call, OperandRole::kFpropX, device);
  const OperandRequest wgrad_x = request_of(call, OperandRole::kWgradX, Form::kPacked);
  FpropResult result;
  QuantizedTensor operand;
  if (quantize_x && pack) {
    BothOperands both = quantize_both(x, fprop_x, wgrad_x);
    operand = std::move(both.row);
    result.kept = std::move(both.column);
  } else if (quantize_x && !keep) {
    operand = quantize(x, fprop_x);
  } else {
    const at::Tensor matrix = x.compute();
    if (pack) {
      result.kept = quantize(Source::matrix(matrix), wgrad_x);
    } else if (keep) {
      result.kept = QuantizedTensor::bf16(matrix);
    }
    operand = quantize_x ? quantize(Source::matrix(matrix), fprop_x) : plain(matrix, call, OperandRole::kFpropX);
  }
  result.y = multiply(call.product(Gemm::kFprop, device), operand, weight.fprop(call));
  tell_of_result(result.y, call, Gemm::kFprop);
  return result;
}

DyOperands quantize_dy(const Source& dy, const LinearCall& call, bool want_dx, bool want_dw) {
  const bool quantize_dgrad = want_dx && call.spec(OperandRole::kDgradDy).quantized();
  const bool quantize_wgrad = want_dw && call.spec(OperandRole::kWgradDy).quantized();
  if (call.context.observer != nullptr) {
    const at::Tensor matrix = dy.compute();
    if (want_dx) tell_of_operand(call, OperandRole::kDgradDy, matrix);
    if (want_dw) tell_of_operand(call, OperandRole::kWgradDy, matrix);
  }
  if (quantize_dgrad && quantize_wgrad) {
    const at::Device device = dy.input().device();
    BothOperands both = quantize_both(dy, request_of(call, OperandRole::kDgradDy, device),
                                      request_of(call, OperandRole::kWgradDy, device));
    return {std::move(both.row), std::move(both.column)};
  }
  const at::Tensor matrix = dy.compute();
  DyOperands result;
  if (want_dx) result.dgrad = dy_operand(matrix, call, OperandRole::kDgradDy);
  if (want_dw) result.wgrad = dy_operand(matrix, call, OperandRole::kWgradDy);
  return result;
}

QuantizedTensor wgrad_x(const QuantizedTensor& kept, const LinearCall& call) {
  const OperandSpec& spec = call.spec(OperandRole::kWgradX);
  if (!spec.quantized()) return plain(kept.values, call, OperandRole::kWgradX);
  if (kept.form != Form::kPacked) return wgrad_x(Source::matrix(kept.values), call);
  return unpack(kept, spec, call.product(Gemm::kWgrad, kept.codes.device()).form);
}

QuantizedTensor wgrad_x(const Source& x, const LinearCall& call) {
  return quantize(x, request_of(call, OperandRole::kWgradX, x.input().device()));
}

at::Tensor dgrad(const QuantizedTensor& dy, const LinearWeight& weight, const LinearCall& call) {
  at::Tensor dx = multiply(call.product(Gemm::kDgrad, dy.values.device()), dy, weight.dgrad(call));
  tell_of_result(dx, call, Gemm::kDgrad);
  return dx;
}

at::Tensor wgrad(const QuantizedTensor& dy, const QuantizedTensor& x, const LinearCall& call, at::ScalarType type) {
  at::Tensor dw = multiply(call.product(Gemm::kWgrad, dy.values.device()), dy, x, type);
  tell_of_result(dw, call, Gemm::kWgrad);
  return dw;
}

void wgrad_into(const at::Tensor& leaf, const QuantizedTensor& dy, const QuantizedTensor& x, const LinearCall& call) {
  at::Tensor& gradient = leaf.mutable_grad();
  const bool begins = call.context.micro_batch == 0 || !gradient.defined();
  if (begins) gradient = at::empty_like(leaf.detach());
  multiply_into(gradient, call.product(Gemm::kWgrad, dy.values.device()), dy, x,
                begins ? Accumulate::kOverwrite : Accumulate::kAdd);
  if (begins) tell_of_result(gradient, call, Gemm::kWgrad);
}

}  // namespace ufp4
