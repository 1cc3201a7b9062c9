#include "torch/quantized_tensor.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "ufp4/format.h"

namespace ufp4 {
namespace {

// Rows and columns (padded).
SymShape operand_shape(const SymShape& matrix, const OperandSpec& spec, Axis axis) {
  const bool row = axis == Axis::kRow;
  const std::int64_t unit = std::max(spec.block_size(), spec.hadamard.size);
  return {row ? matrix.rows : matrix.columns, ((row ? matrix.columns : matrix.rows) + (unit - 1)) / unit * unit};
}

}  // namespace

at::ScalarType value_type(Form form) {
  switch (form) {
    case Form::kFp32: return at::kFloat;
    case Form::kE4m3: return at::kFloat8_e4m3fn;
    case Form::kInt8: return at::kChar;
    case Form::kBf16:
    case Form::kPacked: break;
  }
  return at::kBFloat16;
}

std::string_view name_of(Form form) {
  switch (form) {
    case Form::kBf16: return "bf16";
    case Form::kFp32: return "fp32";
    case Form::kE4m3: return "e4m3";
    case Form::kInt8: return "int8";
    case Form::kPacked: return "packed";
  }
  return "?";
}

QuantizedTensor QuantizedTensor::bf16(at::Tensor matrix) {
  QuantizedTensor result;
  result.values = std::move(matrix);
  return result;
}

at::ScalarType scale_type(const BlockFormat& format) {
  return format.scale == ScaleEncoding::kFp32 ? at::kFloat : at::kByte;
}

std::int64_t scale_elements(const BlockFormat& format) {
  return format.scale == ScaleEncoding::kFp32 ? 1 : format.packed_scale_bytes();
}

SymShape outer_scales_shape(const SymShape& operand, const BlockFormat& format, OuterScale outer) {
  if (!format.has_outer_scale()) return {0, 0};
  const auto parts = [each = columns_of(outer)](const c10::SymInt& n) { return (n + (each - 1)) / each; };
  switch (outer) {
    case OuterScale::kTensor:
    case OuterScale::kOwn: return {1, 1};
    case OuterScale::kRow: return {operand.rows, 1};
    case OuterScale::k128x128: return {parts(operand.rows), parts(operand.columns)};
    default: return {operand.rows, parts(operand.columns)};
  }
}

QuantizedTensor allocate(const SymShape& matrix, const OperandSpec& spec, Axis axis, const at::TensorOptions& options,
                         Form form) {
  const auto empty = [&](c10::SymInt rows, c10::SymInt columns, at::ScalarType type) {
    return at::empty_symint({std::move(rows), std::move(columns)}, options.dtype(type));
  };
  const BlockFormat& format = *spec.format;
  const SymShape shape = operand_shape(matrix, spec, axis);
  QuantizedTensor made;
  made.form = form;
  if (form == Form::kPacked) {
    made.codes = empty(shape.rows, shape.columns / 2, at::kByte);
    made.scales = empty(shape.rows, shape.columns / spec.block_size() * scale_elements(format), scale_type(format));
  } else {
    made.values = empty(shape.rows, shape.columns, value_type(form));
  }
  if (has_outer_scales(form)) {
    const SymShape outer = outer_scales_shape(shape, format, spec.outer_each());
    made.outer_scales = empty(outer.rows, outer.columns, at::kFloat);
  }
  return made;
}

Quantized destination(const QuantizedTensor& operand) {
  Quantized out;
  switch (operand.form) {
    case Form::kPacked:
      out.codes = operand.codes.mutable_data_ptr<std::uint8_t>();
      if (operand.scales.scalar_type() == at::kFloat) {
        out.scales = operand.scales.mutable_data_ptr<float>();
      } else {
        out.packed_scales = operand.scales.mutable_data_ptr<std::uint8_t>();
      }
      break;
    case Form::kInt8: out.int8 = operand.values.mutable_data_ptr<std::int8_t>(); break;
    case Form::kE4m3: out.e4m3 = static_cast<std::uint8_t*>(operand.values.mutable_data_ptr()); break;
    case Form::kBf16:
    case Form::kFp32:
      out.dequantized = operand.values.mutable_data_ptr();
      out.dequantized_dtype = operand.form == Form::kFp32 ? DType::kF32 : DType::kBF16;
  }
  if (operand.outer_scales.defined() && operand.outer_scales.numel() != 0) {
    out.outer_scales = operand.outer_scales.mutable_data_ptr<float>();
  }
  return out;
}

ConstQuantized source_of(const QuantizedTensor& packed, const OperandSpec& spec) {
  ConstQuantized in;
  in.format = spec.format;
  in.block = spec.block;
  in.rows = packed.codes.size(0);
  in.columns = packed.codes.size(1) * 2;
  in.codes = packed.codes.const_data_ptr<std::uint8_t>();
  if (packed.scales.scalar_type() == at::kFloat) {
    in.scales = packed.scales.const_data_ptr<float>();
  } else {
    in.packed_scales = packed.scales.const_data_ptr<std::uint8_t>();
  }
  if (spec.format->has_outer_scale()) {
    in.outer = spec.outer_each();
    in.outer_scales = packed.outer_scales.const_data_ptr<float>();
  }
  return in;
}

}  // namespace ufp4
