#include "torch/ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "torch/kernels.h"
#include "torch/layer_ops.h"
#include "torch/linear_op.h"
#include "torch/op_arguments.h"
#include "torch/operand_memory.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::ops {
namespace {

DType input_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return DType::kF32;
    case at::kBFloat16: return DType::kBF16;
    case at::kHalf: return DType::kF16;
    default: throw InputError("x is " + dtype_name(type) + ", expected Float, BFloat16 or Half");
  }
}

DType output_dtype(at::ScalarType type) {
  if (type == at::kFloat) return DType::kF32;
  if (type == at::kBFloat16) return DType::kBF16;
  throw InputError("dtype is " + dtype_name(type) + ", expected Float or BFloat16");
}

void check_input(const at::Tensor& x) {
  check_matrix("x", x);
  input_dtype(x.scalar_type());
}

PackedOperand allocate(const at::Tensor& x, const QuantizeSpec& spec, at::ScalarType codes) {
  return allocate(SymShape{x.sym_size(0), x.sym_size(1)}, spec, x.options(), codes);
}

// Runs the kernel of x's device; Meta tensors have shapes alone.
void run(const at::Tensor& x, std::span<const QuantizeTask> tasks) {
  const c10::DeviceGuard guard(x.device());
  const at::Tensor dense = x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
  const ConstMatrix in{dense.const_data_ptr(), input_dtype(x.scalar_type()), x.size(0), x.size(1),
                       std::max(dense.stride(0), x.size(1))};
  kernels_of(x.device()).quantize(in, tasks, {});
}

// The operators, with `Compute` false on Meta tensors.

template <bool Compute>
std::tuple<at::Tensor, at::Tensor, at::Tensor> quantize_kernel(
    const at::Tensor& x, std::string_view format, std::int64_t block, std::string_view axis, std::int64_t hadamard,
    std::int64_t hadamard_seed, std::string_view rounding, std::int64_t seed, std::int64_t step, std::int64_t stream,
    std::int64_t row_offset, std::int64_t column_offset, std::string_view outer, double tau,
    const std::optional<at::Tensor>& step_tensor) {
  check_input(x);
  const OneArguments arguments = one_arguments(format, block, axis, hadamard, hadamard_seed, rounding, seed, step,
                                               stream, row_offset, column_offset, outer, tau, step_tensor);
  const QuantizeSpec spec = spec_of(arguments.operand, arguments.axis, arguments.random, x.device());
  const PackedOperand packed = allocate(x, spec, at::kByte);
  if constexpr (Compute) {
    const QuantizeTask task{spec, destination(packed)};
    run(x, {&task, 1});
  }
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
  const at::ScalarType type = dtype.value_or(at::kBFloat16);
  output_dtype(type);
  const OneArguments arguments = one_arguments(format, block, axis, hadamard, hadamard_seed, rounding, seed, step,
                                               stream, row_offset, column_offset, outer, tau, step_tensor);
  const QuantizeSpec spec = spec_of(arguments.operand, arguments.axis, arguments.random, x.device());
  const PackedOperand values = allocate(x, spec, type);
  if constexpr (Compute) {
    const QuantizeTask task{spec, destination(values)};
    run(x, {&task, 1});
  }
  return values.codes;
}

template <bool Compute>
BothResults quantize_both_kernel(const BothArguments& arguments, const at::Tensor& x) {
  check_input(x);
  const QuantizeSpec row = spec_of(arguments.row, Axis::kRow, arguments.random, x.device());
  const QuantizeSpec column = spec_of(arguments.column, Axis::kColumn, arguments.random, x.device());
  const PackedOperand row_out = allocate(x, row, at::kBFloat16);
  const PackedOperand column_out = allocate(x, column, arguments.packed ? at::kByte : at::kBFloat16);
  if constexpr (Compute) {
    const std::array<QuantizeTask, 2> tasks{{{row, destination(row_out)}, {column, destination(column_out)}}};
    run(x, tasks);
  }
  return both_results(row_out.codes, column_out);
}

// Whether the parts of a quantized operand have the types and shapes that `format` gives them.
void check_packed(const PackedOperand& packed, const BlockFormat& format, std::int64_t block, OuterScale outer) {
  const auto& [codes, scales, outer_scales] = packed;
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
  const SymShape expected = outer_scales_shape({codes.sym_size(0), codes.sym_size(1) * 2}, format, outer);
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
  const BlockFormat& block_format = find_format(format);
  const std::int64_t block_size = block == 0 ? block_format.block : to_size("block", block);
  const at::ScalarType type = dtype.value_or(at::kBFloat16);
  const DType out_dtype = output_dtype(type);
  const PackedOperand packed{codes, scales, outer_scales.value_or(at::Tensor())};
  check_packed(packed, block_format, block_size, find_outer_scale(outer));
  at::Tensor out = at::empty_symint({codes.sym_size(0), codes.sym_size(1) * 2}, codes.options().dtype(type));
  if constexpr (Compute) {
    const c10::DeviceGuard guard(codes.device());
    const at::Tensor dense_codes = codes.contiguous();
    const at::Tensor dense_scales = scales.contiguous();
    ConstQuantized in{&block_format, static_cast<int>(block_size), out.size(0), out.size(1),
                      dense_codes.const_data_ptr<std::uint8_t>()};
    at::Tensor dense_outer;
    if (scales.scalar_type() == at::kFloat) {
      in.scales = dense_scales.const_data_ptr<float>();
    } else {
      in.packed_scales = dense_scales.const_data_ptr<std::uint8_t>();
    }
    if (block_format.has_outer_scale()) {
      dense_outer = packed.outer_scales.contiguous();
      in.outer = find_outer_scale(outer);
      in.outer_scales = dense_outer.const_data_ptr<float>();
    }
    kernels_of(codes.device()).dequantize(in, out.mutable_data_ptr(), out_dtype);
  }
  return out;
}

using QuantizeOp = decltype(quantize_kernel<true>);
using QuantizeDequantizeOp = decltype(quantize_dequantize_kernel<true>);
using QuantizeBothOp = decltype(BothKernel<quantize_both_kernel<true>>::call);
using DequantizeOp = decltype(dequantize_kernel<true>);

template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

}  // namespace

PackedOperand quantize(const at::Tensor& x, const OperandArgs& args, Axis axis, const RandomArgs& random) {
  static const auto op = find_op<QuantizeOp>("ufp4::quantize");
  const bool row = axis == Axis::kRow;
  auto [codes, scales, outer_scales] = op.call(
      x, args.format->name, args.block, name_of(axis), args.hadamard, static_cast<std::int64_t>(random.hadamard_seed),
      name_of(args.rounding), static_cast<std::int64_t>(random.seed), random.step, args.stream,
      row ? random.row_offset : random.column_offset, row ? random.column_offset : random.row_offset,
      name_of(args.outer), static_cast<double>(args.tau), random.step_tensor);
  return {std::move(codes), std::move(scales), std::move(outer_scales)};
}

at::Tensor quantize_dequantize(const at::Tensor& x, const OperandArgs& args, Axis axis, const RandomArgs& random) {
  static const auto op = find_op<QuantizeDequantizeOp>("ufp4::quantize_dequantize");
  const bool row = axis == Axis::kRow;
  return op.call(x, args.format->name, args.block, name_of(axis), args.hadamard,
                 static_cast<std::int64_t>(random.hadamard_seed), name_of(args.rounding),
                 static_cast<std::int64_t>(random.seed), random.step, args.stream,
                 row ? random.row_offset : random.column_offset, row ? random.column_offset : random.row_offset,
                 name_of(args.outer), static_cast<double>(args.tau), random.step_tensor, std::nullopt);
}

BothOrientations quantize_both(const at::Tensor& x, const OperandArgs& row, const OperandArgs& column,
                               const RandomArgs& random, bool packed) {
  static const auto op = find_op<QuantizeBothOp>("ufp4::quantize_both");
  auto [row_out, column_out, scales, outer_scales] =
      op.call(x, row.format->name, column.format->name, row.block, column.block, row.hadamard, column.hadamard,
              name_of(row.rounding), name_of(column.rounding), row.stream, column.stream, name_of(row.outer),
              name_of(column.outer), static_cast<double>(row.tau), static_cast<double>(column.tau),
              static_cast<std::int64_t>(random.hadamard_seed), static_cast<std::int64_t>(random.seed), random.step,
              random.row_offset, random.column_offset, packed, random.step_tensor);
  return {std::move(row_out), {std::move(column_out), std::move(scales), std::move(outer_scales)}};
}

at::Tensor dequantize(const PackedOperand& operand, const OperandArgs& args) {
  static const auto op = find_op<DequantizeOp>("ufp4::dequantize");
  return op.call(operand.codes, operand.scales, args.format->name, args.block, operand.outer_scales,
                 name_of(args.outer), std::nullopt);
}

template <bool Compute>
void implement_operators(torch::Library& library) {
  library.impl("quantize", quantize_kernel<Compute>);
  library.impl("quantize_dequantize", quantize_dequantize_kernel<Compute>);
  library.impl("quantize_both", BothKernel<quantize_both_kernel<Compute>>::call);
  library.impl("dequantize", dequantize_kernel<Compute>);
  implement_layer_operators<Compute>(library);
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
      "str outer=\"tensor\", ScalarType? dtype=None) -> Tensor");
  m.def(
      "linear(Tensor x, Tensor weight, str recipe, *, int layer=0, int seed=0, int step=0, int token_offset=0, "
      "bool stash=True) -> Tensor",
      linear_op);
  define_layer_operators(m);
}

TORCH_LIBRARY_IMPL(ufp4, CPU, m) { implement_operators<true>(m); }

// The same functions: they call the kernels of the tensor's device, or say that this build has none.
TORCH_LIBRARY_IMPL(ufp4, CUDA, m) { implement_operators<true>(m); }

TORCH_LIBRARY_IMPL(ufp4, Meta, m) { implement_operators<false>(m); }

}  // namespace ufp4::ops
