#include "torch/ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "torch/kernels.h"
#include "torch/linear_op.h"
#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

std::string dtype_name(at::ScalarType type) { return c10::toString(type); }

std::uint32_t to_u32(std::string_view name, std::int64_t value) {
  if (value < 0 || value > std::numeric_limits<std::uint32_t>::max()) {
    throw InputError(std::string(name) + " is " + std::to_string(value) + ", expected 0 to 4294967295");
  }
  return static_cast<std::uint32_t>(value);
}

int to_int(std::string_view name, std::int64_t value) {
  if (value < 0 || value > 128)
    throw InputError(std::string(name) + " is " + std::to_string(value) + ", expected 0, 16, 32, 64 or 128");
  return static_cast<int>(value);
}

Axis to_axis(std::string_view axis) {
  if (axis == "row") return Axis::kRow;
  if (axis == "column") return Axis::kColumn;
  throw InputError("axis '" + std::string(axis) + "' is neither 'row' nor 'column'");
}

std::string_view name_of(Axis axis) { return axis == Axis::kRow ? "row" : "column"; }

Rounding to_rounding(std::string_view rounding) {
  if (rounding == "rtne") return Rounding::kNearest;
  if (rounding == "sr") return Rounding::kStochastic;
  throw InputError("rounding '" + std::string(rounding) + "' is neither 'rtne' nor 'sr'");
}

std::string_view name_of(Rounding rounding) { return rounding == Rounding::kNearest ? "rtne" : "sr"; }

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

void check_matrix(const at::Tensor& x) {
  if (x.dim() != 2) throw InputError("x has " + std::to_string(x.dim()) + " dimensions, expected a matrix");
  input_dtype(x.scalar_type());
}

// The arguments as torch's schema has them; the same for all devices.
struct OperandSchema {
  std::string_view format;
  std::int64_t block;
  std::int64_t hadamard;
  std::string_view rounding;
  std::int64_t stream;
};

struct RandomSchema {
  std::int64_t hadamard_seed;
  std::int64_t seed;
  std::int64_t step;
};

QuantizeSpec make_spec(const OperandSchema& operand, Axis axis, const RandomSchema& random, std::int64_t row_offset,
                       std::int64_t column_offset) {
  QuantizeSpec spec;
  spec.format = &find_format(operand.format);
  if (spec.format->rule != ScaleRule::kAmax) {
    throw InputError("format '" + std::string(spec.format->name) +
                     "' is not an operand of these operators: they take formats with one FP32 scale a block");
  }
  spec.block = to_int("block", operand.block);
  spec.axis = axis;
  spec.rounding = to_rounding(operand.rounding);
  spec.random = {static_cast<std::uint64_t>(random.seed), to_u32("step", random.step), to_u32("stream", operand.stream),
                 to_u32("row_offset", row_offset), to_u32("column_offset", column_offset)};
  const int hadamard = to_int("hadamard", operand.hadamard);
  if (hadamard != 0) spec.hadamard = make_hadamard(hadamard, static_cast<std::uint64_t>(random.hadamard_seed));
  quantized_shape(0, 0, spec);  // checks the block and the transform
  return spec;
}

// Rows and columns (padded) of the operand, for shapes that may be symbolic.
struct SymShape {
  c10::SymInt rows;
  c10::SymInt columns;
};

SymShape operand_shape(const at::Tensor& x, const QuantizeSpec& spec) {
  const bool row = spec.axis == Axis::kRow;
  const std::int64_t unit = std::max(spec.block_size(), spec.hadamard.size);
  return {x.sym_size(row ? 0 : 1), (x.sym_size(row ? 1 : 0) + (unit - 1)) / unit * unit};
}

at::Tensor empty_like_device(const at::Tensor& x, c10::SymInt rows, c10::SymInt columns, at::ScalarType type) {
  return at::empty_symint({std::move(rows), std::move(columns)}, x.options().dtype(type));
}

struct Packed {
  at::Tensor codes;
  at::Tensor scales;
};

Packed allocate_packed(const at::Tensor& x, const QuantizeSpec& spec) {
  const SymShape shape = operand_shape(x, spec);
  return {empty_like_device(x, shape.rows, shape.columns / 2, at::kByte),
          empty_like_device(x, shape.rows, shape.columns / spec.block_size(), at::kFloat)};
}

at::Tensor allocate_dequantized(const at::Tensor& x, const QuantizeSpec& spec, at::ScalarType type) {
  const SymShape shape = operand_shape(x, spec);
  return empty_like_device(x, shape.rows, shape.columns, type);
}

Quantized destination(const Packed& packed) {
  Quantized out;
  out.codes = packed.codes.mutable_data_ptr<std::uint8_t>();
  out.scales = packed.scales.mutable_data_ptr<float>();
  return out;
}

Quantized destination(const at::Tensor& dequantized) {
  Quantized out;
  out.dequantized = dequantized.mutable_data_ptr();
  out.dequantized_dtype = output_dtype(dequantized.scalar_type());
  return out;
}

// Runs the kernel of x's device; Meta tensors have shapes alone.
void run(const at::Tensor& x, std::span<const QuantizeTask> tasks) {
  const at::Tensor dense = x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
  const ConstMatrix in{dense.const_data_ptr(), input_dtype(x.scalar_type()), x.size(0), x.size(1),
                       std::max(dense.stride(0), x.size(1))};
  kernels_of(x.device()).quantize(in, tasks);
}

// The operators, with `Compute` false on Meta tensors.

template <bool Compute>
std::tuple<at::Tensor, at::Tensor> quantize_kernel(const at::Tensor& x, std::string_view format, std::int64_t block,
                                                   std::string_view axis, std::int64_t hadamard,
                                                   std::int64_t hadamard_seed, std::string_view rounding,
                                                   std::int64_t seed, std::int64_t step, std::int64_t stream,
                                                   std::int64_t row_offset, std::int64_t column_offset) {
  check_matrix(x);
  const QuantizeSpec spec = make_spec({format, block, hadamard, rounding, stream}, to_axis(axis),
                                      {hadamard_seed, seed, step}, row_offset, column_offset);
  const Packed packed = allocate_packed(x, spec);
  if constexpr (Compute) {
    const QuantizeTask task{spec, destination(packed)};
    run(x, {&task, 1});
  }
  return {packed.codes, packed.scales};
}

template <bool Compute>
at::Tensor quantize_dequantize_kernel(const at::Tensor& x, std::string_view format, std::int64_t block,
                                      std::string_view axis, std::int64_t hadamard, std::int64_t hadamard_seed,
                                      std::string_view rounding, std::int64_t seed, std::int64_t step,
                                      std::int64_t stream, std::int64_t row_offset, std::int64_t column_offset,
                                      std::optional<at::ScalarType> dtype) {
  check_matrix(x);
  const at::ScalarType type = dtype.value_or(at::kBFloat16);
  output_dtype(type);
  const QuantizeSpec spec = make_spec({format, block, hadamard, rounding, stream}, to_axis(axis),
                                      {hadamard_seed, seed, step}, row_offset, column_offset);
  const at::Tensor out = allocate_dequantized(x, spec, type);
  if constexpr (Compute) {
    const QuantizeTask task{spec, destination(out)};
    run(x, {&task, 1});
  }
  return out;
}

template <bool Compute>
std::tuple<at::Tensor, at::Tensor, at::Tensor> quantize_both_kernel(
    const at::Tensor& x, std::string_view row_format, std::string_view column_format, std::int64_t row_block,
    std::int64_t column_block, std::int64_t row_hadamard, std::int64_t column_hadamard, std::string_view row_rounding,
    std::string_view column_rounding, std::int64_t row_stream, std::int64_t column_stream, std::int64_t hadamard_seed,
    std::int64_t seed, std::int64_t step, std::int64_t row_offset, std::int64_t column_offset, bool packed) {
  check_matrix(x);
  const RandomSchema random{hadamard_seed, seed, step};
  const QuantizeSpec row = make_spec({row_format, row_block, row_hadamard, row_rounding, row_stream}, Axis::kRow,
                                     random, row_offset, column_offset);
  // The rows of the column-wise operand are the stored columns.
  const QuantizeSpec column = make_spec({column_format, column_block, column_hadamard, column_rounding, column_stream},
                                        Axis::kColumn, random, column_offset, row_offset);
  const at::Tensor row_out = allocate_dequantized(x, row, at::kBFloat16);
  const Packed column_out =
      packed ? allocate_packed(x, column)
             : Packed{allocate_dequantized(x, column, at::kBFloat16), empty_like_device(x, 0, 0, at::kFloat)};
  if constexpr (Compute) {
    const std::array<QuantizeTask, 2> tasks{
        {{row, destination(row_out)}, {column, packed ? destination(column_out) : destination(column_out.codes)}}};
    run(x, tasks);
  }
  return {row_out, column_out.codes, column_out.scales};
}

template <bool Compute>
at::Tensor dequantize_kernel(const at::Tensor& codes, const at::Tensor& scales, std::string_view format,
                             std::int64_t block, std::optional<at::ScalarType> dtype) {
  const BlockFormat& block_format = find_format(format);
  const std::int64_t block_size = block == 0 ? block_format.block : to_int("block", block);
  const at::ScalarType type = dtype.value_or(at::kBFloat16);
  const DType out_dtype = output_dtype(type);
  if (codes.scalar_type() != at::kByte || scales.scalar_type() != at::kFloat) {
    throw InputError("codes are " + dtype_name(codes.scalar_type()) + " and scales " +
                     dtype_name(scales.scalar_type()) + ", expected Byte and Float");
  }
  if (codes.dim() != 2 || scales.dim() != 2 || codes.device() != scales.device() ||
      codes.sym_size(0) != scales.sym_size(0) || codes.sym_size(1) * 2 != scales.sym_size(1) * block_size) {
    throw InputError(
        "codes and scales do not fit together: expected codes [rows, columns / 2] and scales [rows, columns / " +
        std::to_string(block_size) + "] on one device");
  }
  const at::Tensor out = empty_like_device(codes, codes.sym_size(0), codes.sym_size(1) * 2, type);
  if constexpr (Compute) {
    const at::Tensor dense_codes = codes.contiguous();
    const at::Tensor dense_scales = scales.contiguous();
    kernels_of(codes.device())
        .dequantize({&block_format, static_cast<int>(block_size), out.size(0), out.size(1),
                     dense_codes.const_data_ptr<std::uint8_t>(), dense_scales.const_data_ptr<float>(), 1.0F},
                    out.mutable_data_ptr(), out_dtype);
  }
  return out;
}

using QuantizeOp = decltype(quantize_kernel<true>);
using QuantizeDequantizeOp = decltype(quantize_dequantize_kernel<true>);
using QuantizeBothOp = decltype(quantize_both_kernel<true>);
using DequantizeOp = decltype(dequantize_kernel<true>);

template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> quantize(const at::Tensor& x, const OperandArgs& args, Axis axis,
                                            const RandomArgs& random) {
  static const auto op = find_op<QuantizeOp>("ufp4::quantize");
  const bool row = axis == Axis::kRow;
  return op.call(x, args.format->name, args.block, name_of(axis), args.hadamard,
                 static_cast<std::int64_t>(random.hadamard_seed), name_of(args.rounding),
                 static_cast<std::int64_t>(random.seed), random.step, args.stream,
                 row ? random.row_offset : random.column_offset, row ? random.column_offset : random.row_offset);
}

at::Tensor quantize_dequantize(const at::Tensor& x, const OperandArgs& args, Axis axis, const RandomArgs& random) {
  static const auto op = find_op<QuantizeDequantizeOp>("ufp4::quantize_dequantize");
  const bool row = axis == Axis::kRow;
  return op.call(
      x, args.format->name, args.block, name_of(axis), args.hadamard, static_cast<std::int64_t>(random.hadamard_seed),
      name_of(args.rounding), static_cast<std::int64_t>(random.seed), random.step, args.stream,
      row ? random.row_offset : random.column_offset, row ? random.column_offset : random.row_offset, std::nullopt);
}

BothOrientations quantize_both(const at::Tensor& x, const OperandArgs& row, const OperandArgs& column,
                               const RandomArgs& random, bool packed) {
  static const auto op = find_op<QuantizeBothOp>("ufp4::quantize_both");
  auto [row_out, column_out, scales] =
      op.call(x, row.format->name, column.format->name, row.block, column.block, row.hadamard, column.hadamard,
              name_of(row.rounding), name_of(column.rounding), row.stream, column.stream,
              static_cast<std::int64_t>(random.hadamard_seed), static_cast<std::int64_t>(random.seed), random.step,
              random.row_offset, random.column_offset, packed);
  return {std::move(row_out), std::move(column_out), std::move(scales)};
}

at::Tensor dequantize(const at::Tensor& codes, const at::Tensor& scales, const BlockFormat& format, int block) {
  static const auto op = find_op<DequantizeOp>("ufp4::dequantize");
  return op.call(codes, scales, format.name, block, std::nullopt);
}

// `axis` names the axis of x along which the blocks run; the operand of "column" is the transpose of x. Offsets of
// quantize and quantize_dequantize are in the operand's coordinates, those of quantize_both in x's.
TORCH_LIBRARY(ufp4, m) {
  m.def(
      "quantize(Tensor x, str format, *, int block=0, str axis=\"row\", int hadamard=0, int hadamard_seed=0, "
      "str rounding=\"rtne\", int seed=0, int step=0, int stream=0, int row_offset=0, int column_offset=0) "
      "-> (Tensor codes, Tensor scales)");
  m.def(
      "quantize_dequantize(Tensor x, str format, *, int block=0, str axis=\"row\", int hadamard=0, "
      "int hadamard_seed=0, str rounding=\"rtne\", int seed=0, int step=0, int stream=0, int row_offset=0, "
      "int column_offset=0, ScalarType? dtype=None) -> Tensor");
  m.def(
      "quantize_both(Tensor x, str row_format, str column_format, *, int row_block=0, int column_block=0, "
      "int row_hadamard=0, int column_hadamard=0, str row_rounding=\"rtne\", str column_rounding=\"rtne\", "
      "int row_stream=0, int column_stream=0, int hadamard_seed=0, int seed=0, int step=0, int row_offset=0, "
      "int column_offset=0, bool packed=True) -> (Tensor row, Tensor column, Tensor column_scales)");
  m.def("dequantize(Tensor codes, Tensor scales, str format, *, int block=0, ScalarType? dtype=None) -> Tensor");
  m.def(
      "linear(Tensor x, Tensor weight, str recipe, *, int layer=0, int seed=0, int step=0, int token_offset=0, "
      "bool stash=True) -> Tensor",
      linear_op);
}

TORCH_LIBRARY_IMPL(ufp4, CPU, m) {
  m.impl("quantize", quantize_kernel<true>);
  m.impl("quantize_dequantize", quantize_dequantize_kernel<true>);
  m.impl("quantize_both", quantize_both_kernel<true>);
  m.impl("dequantize", dequantize_kernel<true>);
}

// The same functions: they call the kernels of the tensor's device, or say that this build has none.
TORCH_LIBRARY_IMPL(ufp4, CUDA, m) {
  m.impl("quantize", quantize_kernel<true>);
  m.impl("quantize_dequantize", quantize_dequantize_kernel<true>);
  m.impl("quantize_both", quantize_both_kernel<true>);
  m.impl("dequantize", dequantize_kernel<true>);
}

TORCH_LIBRARY_IMPL(ufp4, Meta, m) {
  m.impl("quantize", quantize_kernel<false>);
  m.impl("quantize_dequantize", quantize_dequantize_kernel<false>);
  m.impl("quantize_both", quantize_both_kernel<false>);
  m.impl("dequantize", dequantize_kernel<false>);
}

}  // namespace ufp4::ops
