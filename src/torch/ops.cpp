#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <string_view>

#include "torch/layer_ops.h"
#include "torch/linear_parts.h"
#include "torch/linear_schema.h"
#include "torch/op_arguments.h"
#include "torch/operand.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::ops {
namespace {

Form value_form(at::ScalarType type) {
  if (type == at::kFloat) return Form::kFp32;
  if (type == at::kBFloat16) return Form::kBf16;
  throw InputError("dtype is " + dtype_name(type) + ", expected Float or BFloat16");
}

void check_input(const at::Tensor& x) {
  check_matrix("x", x);
  const at::ScalarType type = x.scalar_type();
  if (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf) return;
  throw InputError("x is " + dtype_name(type) + ", expected Float, BFloat16 or Half");
}

QuantizedTensor shape_of(const at::Tensor& x, const OperandRequest& request) {
  check(request.at.device, x.device());
  return allocate(SymShape{x.sym_size(0), x.sym_size(1)}, request.spec, request.at.place.axis, x.options(),
                  request.form);
}

// The operators, with `Compute` false on Meta tensors, which have shapes alone.

template <bool Compute>
QuantizedTensor one_operand(const at::Tensor& x, const OperandRequest& request) {
  return Compute ? quantize(Source::matrix(x), request) : shape_of(x, request);
}

template <bool Compute>
std::tuple<at::Tensor, at::Tensor, at::Tensor> quantize_kernel(
    const at::Tensor& x, std::string_view format, std::int64_t block, std::string_view axis, std::int64_t hadamard,
    std::int64_t hadamard_seed, std::string_view rounding, std::int64_t seed, std::int64_t step, std::int64_t stream,
    std::int64_t row_offset, std::int64_t column_offset, std::string_view outer, double tau,
    const std::optional<at::Tensor>& step_tensor) {
  check_input(x);
  const QuantizedTensor packed =
      one_operand<Compute>(x, one_request(format, block, axis, hadamard, hadamard_seed, rounding, seed, step, stream,
                                          row_offset, column_offset, outer, tau, step_tensor));
  return {packed.codes, packed.scales, packed.outer_scales};
}

template <bool Compute>
at::Tensor quantize_dequantize_kernel(const at::Tensor& x, std::string_view format, std::int64_t block,
                                      std::string_view axis, std::int64_t hadamard, std::int64_t hadamard_seed,
                                      std::string_view rounding, std::int64_t seed, std::int64_t step,
                                      std::int64_t stream, std::int64_t row_offset, std::int64_t column_offset,
                                      std::string_view outer, double tau, const std::optional<at::Tensor>& step_tensor,
                                      std::optional<at::ScalarType> dtype) {
  check_input(x);
  OperandRequest request = one_request(format, block, axis, hadamard, hadamard_seed, rounding, seed, step, stream,
                                       row_offset, column_offset, outer, tau, step_tensor);
  request.form = value_form(dtype.value_or(at::kBFloat16));
  return one_operand<Compute>(x, request).values;
}

template <bool Compute>
BothResults quantize_both_kernel(const BothRequests& requests, const at::Tensor& x) {
  check_input(x);
  const auto& [row, column] = requests;
  return both_results(Compute ? quantize_both(Source::matrix(x), row, column)
                              : BothOperands{shape_of(x, row), shape_of(x, column)});
}

// Whether the parts of a quantized operand have the types and shapes that `format` gives them.
void check_packed(const QuantizedTensor& packed, const OperandSpec& spec) {
  const auto& [form, values, codes, scales, outer_scales] = packed;
  const BlockFormat& format = *spec.format;
  const std::int64_t block = spec.block_size();
  if (codes.scalar_type() != at::kByte || scales.scalar_type() != scale_type(format)) {
    throw InputError("codes are " + dtype_name(codes.scalar_type()) + " and scales " +
                     dtype_name(scales.scalar_type()) + ", expected Byte and " + dtype_name(scale_type(format)));
  }
  const std::int64_t each = scale_elements(format);
  if (codes.dim() != 2 || scales.dim() != 2 || codes.device() != scales.device() ||
      codes.sym_size(0) != scales.sym_size(0) || codes.sym_size(1) * 2 * each != scales.sym_size(1) * block) {
    throw InputError(
        "codes and scales do not fit together: expected codes [rows, columns / 2] and scales [rows, columns / " +
        std::to_string(block) + (each == 1 ? "" : " * " + std::to_string(each)) + "] on one device");
  }
  if (!format.has_outer_scale()) return;
  const SymShape expected = outer_scales_shape({codes.sym_size(0), codes.sym_size(1) * 2}, format, spec.outer_each());
  if (!outer_scales.defined() || outer_scales.scalar_type() != at::kFloat || outer_scales.dim() != 2 ||
      outer_scales.device() != codes.device() || outer_scales.sym_size(0) != expected.rows ||
      outer_scales.sym_size(1) != expected.columns) {
    throw InputError("format '" + std::string(format.name) + "' needs its outer scales: expected Float " +
                     c10::str(c10::SymIntArrayRef({expected.rows, expected.columns})) + " on the device of the codes");
  }
}

template <bool Compute>
at::Tensor dequantize_kernel(const at::Tensor& codes, const at::Tensor& scales, std::string_view format,
                             std::int64_t block, const std::optional<at::Tensor>& outer_scales, std::string_view outer,
                             std::optional<at::ScalarType> dtype) {
  OperandSpec spec;
  spec.format = &find_format(format);
  spec.block = to_size("block", block);
  spec.outer.each = find_outer_scale(outer);
  validate(spec);
  const Form form = value_form(dtype.value_or(at::kBFloat16));
  QuantizedTensor packed;
  packed.form = Form::kPacked;
  packed.codes = codes;
  packed.scales = scales;
  packed.outer_scales = outer_scales.value_or(at::Tensor());
  check_packed(packed, spec);
  if constexpr (Compute) return unpack(packed, spec, form).values;
  return at::empty_symint({codes.sym_size(0), codes.sym_size(1) * 2},
                          codes.options().dtype(form == Form::kFp32 ? at::kFloat : at::kBFloat16));
}

}  // namespace

template <bool Compute>
void implement_operators(torch::Library& library) {
  library.impl("quantize", quantize_kernel<Compute>);
  library.impl("quantize_dequantize", quantize_dequantize_kernel<Compute>);
  library.impl("quantize_both", BothKernel<quantize_both_kernel<Compute>>::call);
  library.impl("dequantize", dequantize_kernel<Compute>);
  implement_layer_operators<Compute>(library);
  implement_linear_parts<Compute>(library);
}

// `axis` names the axis of x along which the blocks run; the operand of "column" is the transpose of x. Offsets of
// quantize and quantize_dequantize are in the operand's coordinates, those of quantize_both in x's. `step_tensor`, one
// int32 on the device of x, stands for `step`: on a GPU it is read when the kernel runs.
TORCH_LIBRARY(ufp4, m) {
  m.def(c10::str("quantize(Tensor x, ", kOneArguments, ") -> (Tensor codes, Tensor scales, Tensor outer_scales)")
            .c_str());
  m.def(c10::str("quantize_dequantize(Tensor x, ", kOneArguments, ", ScalarType? dtype=None) -> Tensor").c_str());
  m.def(c10::str("quantize_both(Tensor x, ", kBothArguments, ") -> ", kBothResults).c_str());
  m.def(
      "dequantize(Tensor codes, Tensor scales, str format, *, int block=0, Tensor? outer_scales=None, "
      "str outer=\"own\", ScalarType? dtype=None) -> Tensor");
  define_linear(m);
  define_linear_parts(m);
  define_layer_operators(m);
}

TORCH_LIBRARY_IMPL(ufp4, CPU, m) { implement_operators<true>(m); }

// The same functions: they call the kernels of the tensor's device, or say that this build has none.
TORCH_LIBRARY_IMPL(ufp4, CUDA, m) { implement_operators<true>(m); }

TORCH_LIBRARY_IMPL(ufp4, Meta, m) { implement_operators<false>(m); }

}  // namespace ufp4::ops
