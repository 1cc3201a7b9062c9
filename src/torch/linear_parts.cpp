#include "torch/linear_parts.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <string>
#include <utility>

#include "torch/op_arguments.h"
#include "torch/pending_backward.h"
#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

at::Tensor nothing(const at::Tensor& like) { return at::empty({0}, like.options().dtype(at::kFloat)); }

at::Tensor or_nothing(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.defined() ? tensor : nothing(like);
}

// An empty tensor back to an undefined one.
at::Tensor given(const at::Tensor& tensor) {
  return tensor.defined() && !(tensor.dim() == 1 && tensor.sym_size(0) == 0) ? tensor : at::Tensor();
}

QuantizedTensor shape_of(const LinearCall& call, OperandRole role, Form form, const at::Tensor& stored) {
  return allocate({stored.sym_size(0), stored.sym_size(1)}, call.spec(role), axis_of(role), stored.options(), form);
}

Form form_of(const LinearCall& call, Gemm gemm) { return (*call.products)[gemm].form; }

// Values and scale of an operand of the weight, as its product takes it. What is not quantized would be an alias of the
// weight, which an operator must not return.
std::pair<at::Tensor, at::Tensor> weight_tensors(const QuantizedTensor& operand, const at::Tensor& weight) {
  return {or_nothing(operand.values, weight), or_nothing(given(operand.outer_scales), weight)};
}

QuantizedTensor weight_operand(const LinearCall& call, Gemm gemm, const at::Tensor& values, const at::Tensor& scale) {
  QuantizedTensor operand;
  operand.values = given(values);
  if (!operand.given()) return operand;
  operand.form = form_of(call, gemm);
  if (has_outer_scales(operand.form)) operand.outer_scales = scale;
  return operand;
}

// Both operands, or the one that is quantized.
WeightOperands weight_operands(const at::Tensor& weight, const LinearCall& call) {
  if (quantizes_weight(*call.recipe)) return prepare_weight(weight, call);
  WeightOperands made;
  if (call.spec(OperandRole::kFpropW).quantized()) made.fprop = LinearWeight{weight, {}}.fprop(call);
  if (call.spec(OperandRole::kDgradW).quantized()) made.dgrad = LinearWeight{weight, {}}.dgrad(call);
  return made;
}

WeightOperands weight_shapes(const at::Tensor& weight, const LinearCall& call) {
  WeightOperands made;
  if (call.spec(OperandRole::kFpropW).quantized()) {
    made.fprop = shape_of(call, OperandRole::kFpropW, form_of(call, Gemm::kFprop), weight);
  }
  if (call.spec(OperandRole::kDgradW).quantized()) {
    made.dgrad = shape_of(call, OperandRole::kDgradW, form_of(call, Gemm::kDgrad), weight);
  }
  return made;
}

template <bool Compute>
WeightTensors quantize_weight_kernel(const at::Tensor& weight, std::string_view recipe, std::string_view products,
                                     c10::SymIntArrayRef place, const std::optional<at::Tensor>& step_tensor,
                                     const std::optional<at::Tensor>& layer_tensor,
                                     const std::optional<at::Tensor>& token_tensor) {
  const CallArguments arguments{recipe, products, place, step_tensor, layer_tensor, token_tensor};
  WeightOperands made;
  if constexpr (Compute) {
    made = weight_operands(weight, call_of(arguments, Stash::kNone));
  } else {
    made = weight_shapes(weight, shape_call_of(arguments, Stash::kNone));
  }
  auto [fprop, fprop_scale] = weight_tensors(made.fprop, weight);
  auto [dgrad, dgrad_scale] = weight_tensors(made.dgrad, weight);
  return {fprop, fprop_scale, dgrad, dgrad_scale};
}

template <bool Compute>
ForwardTensors linear_forward_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& fprop_weight,
                                     const at::Tensor& fprop_scale, bool keep, std::string_view recipe,
                                     std::string_view products, c10::SymIntArrayRef place,
                                     const std::optional<at::Tensor>& step_tensor,
                                     const std::optional<at::Tensor>& layer_tensor,
                                     const std::optional<at::Tensor>& token_tensor) {
  const CallArguments arguments{recipe, products, place, step_tensor, layer_tensor, token_tensor};
  if constexpr (Compute) {
    const LinearCall call = call_of(arguments, Stash::kPacked);
    if (step_tensor) check_clock(*step_tensor);
    const LinearWeight use{weight, {weight_operand(call, Gemm::kFprop, fprop_weight, fprop_scale), {}}};
    const bool packs = keep && call.spec(OperandRole::kWgradX).quantized();
    const FpropResult result = fprop(Source::matrix(x), use, call, packs);
    return {result.y, or_nothing(result.kept.codes, x), or_nothing(result.kept.scales, x),
            or_nothing(given(result.kept.outer_scales), x)};
  } else {
    const LinearCall call = shape_call_of(arguments, Stash::kPacked);
    at::Tensor y = at::empty_symint({x.sym_size(0), weight.sym_size(0)}, x.options());
    if (!keep || !call.spec(OperandRole::kWgradX).quantized()) return {y, nothing(x), nothing(x), nothing(x)};
    const QuantizedTensor kept = shape_of(call, OperandRole::kWgradX, Form::kPacked, x);
    return {y, kept.codes, kept.scales, or_nothing(given(kept.outer_scales), x)};
  }
}

template <bool Compute>
BackwardTensors linear_backward_kernel(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& codes,
                                       const at::Tensor& scales, const at::Tensor& outer_scales,
                                       const at::Tensor& weight, const at::Tensor& dgrad_weight,
                                       const at::Tensor& dgrad_scale, bool want_dx, bool want_dw,
                                       std::string_view recipe, std::string_view products, c10::SymIntArrayRef place,
                                       const std::optional<at::Tensor>& step_tensor,
                                       const std::optional<at::Tensor>& layer_tensor,
                                       const std::optional<at::Tensor>& token_tensor) {
  const CallArguments arguments{recipe, products, place, step_tensor, layer_tensor, token_tensor};
  if constexpr (Compute) {
    const bool packed = given(codes).defined();
    const LinearCall call = call_of(arguments, packed ? Stash::kPacked : Stash::kNone);
    DyOperands operands = quantize_dy(Source::matrix(dy), call, want_dx, want_dw);
    BackwardTensors result{nothing(dy), nothing(dy)};
    if (want_dx) {
      const LinearWeight use{weight, {{}, weight_operand(call, Gemm::kDgrad, dgrad_weight, dgrad_scale)}};
      std::get<0>(result) = dgrad(operands.dgrad, use, call);
    }
    operands.dgrad = {};
    if (want_dw) {
      const QuantizedTensor kept =
          packed ? QuantizedTensor{Form::kPacked, {}, codes, scales, given(outer_scales)} : QuantizedTensor::bf16(x);
      std::get<1>(result) = wgrad(operands.wgrad, wgrad_x(kept, call), call, weight.scalar_type());
    }
    return result;
  } else {
    return {want_dx ? at::empty_symint({dy.sym_size(0), weight.sym_size(1)}, dy.options()) : nothing(dy),
            want_dw ? at::empty_symint(weight.sym_sizes(), weight.options()) : nothing(dy)};
  }
}

[[noreturn]] void refuse_vmap() {
  throw InputError(
      "ufp4 operators have no rule for vmap: blocks and random bits follow from the place in the whole matrix; "
      "give the batch as more rows of x");
}

// For every operator of the linear under vmap, whatever its arguments.
void refuse_vmap_boxed(const c10::OperatorHandle& /*op*/, c10::DispatchKeySet /*keys*/, torch::jit::Stack* /*stack*/) {
  refuse_vmap();
}

template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

}  // namespace

WeightTensors quantize_weight(const at::Tensor& weight, const PartCall& call) {
  static const auto op = find_op<decltype(quantize_weight_kernel<true>)>("ufp4::quantize_weight");
  return op.call(weight, call.recipe, call.products, call.place, call.step_tensor, call.layer_tensor,
                 call.token_tensor);
}

ForwardTensors linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& fprop,
                              const at::Tensor& fprop_scale, bool keep, const PartCall& call) {
  static const auto op = find_op<decltype(linear_forward_kernel<true>)>("ufp4::linear_forward");
  return op.call(x, weight, or_nothing(fprop, x), or_nothing(fprop_scale, x), keep, call.recipe, call.products,
                 call.place, call.step_tensor, call.layer_tensor, call.token_tensor);
}

BackwardTensors linear_backward(const at::Tensor& dy, const SavedInput& input, const at::Tensor& weight,
                                const at::Tensor& dgrad, const at::Tensor& dgrad_scale, bool want_dx, bool want_dw,
                                const PartCall& call) {
  static const auto op = find_op<decltype(linear_backward_kernel<true>)>("ufp4::linear_backward");
  return op.call(dy, or_nothing(input.x, dy), or_nothing(input.codes, dy), or_nothing(input.scales, dy),
                 or_nothing(input.outer_scales, dy), weight, or_nothing(dgrad, dy), or_nothing(dgrad_scale, dy),
                 want_dx, want_dw, call.recipe, call.products, call.place, call.step_tensor, call.layer_tensor,
                 call.token_tensor);
}

void define_linear_parts(torch::Library& library) {
  library.def(c10::str("quantize_weight(Tensor weight, ", kCallArguments,
                       ") -> (Tensor fprop, Tensor fprop_scale, Tensor dgrad, Tensor dgrad_scale)")
                  .c_str());
  library.def(c10::str("linear_forward(Tensor x, Tensor weight, Tensor fprop, Tensor fprop_scale, bool keep, ",
                       kCallArguments, ") -> (Tensor y, Tensor codes, Tensor scales, Tensor outer_scales)")
                  .c_str());
  library.def(c10::str("linear_backward(Tensor dy, Tensor x, Tensor codes, Tensor scales, Tensor outer_scales, "
                       "Tensor weight, Tensor dgrad, Tensor dgrad_scale, bool want_dx, bool want_dw, ",
                       kCallArguments, ") -> (Tensor dx, Tensor dw)")
                  .c_str());
}

template <bool Compute>
void implement_linear_parts(torch::Library& library) {
  library.impl("quantize_weight", quantize_weight_kernel<Compute>);
  library.impl("linear_forward", linear_forward_kernel<Compute>);
  library.impl("linear_backward", linear_backward_kernel<Compute>);
}

template void implement_linear_parts<true>(torch::Library& library);
template void implement_linear_parts<false>(torch::Library& library);

TORCH_LIBRARY_IMPL(ufp4, FuncTorchBatched, m) {
  for (const char* const name : {"quantize_weight", "linear_forward", "linear_backward", "linear"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse_vmap_boxed>());
  }
}

}  // namespace ufp4::ops
