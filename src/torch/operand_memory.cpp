#include "torch/operand_memory.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "ufp4/format.h"

namespace ufp4::ops {
namespace {

// Rows and columns (padded).
SymShape operand_shape(const SymShape& matrix, const QuantizeSpec& spec) {
  const bool row = spec.axis == Axis::kRow;
  const std::int64_t unit = std::max(spec.block_size(), spec.hadamard.size);
  return {row ? matrix.rows : matrix.columns, ((row ? matrix.columns : matrix.rows) + (unit - 1)) / unit * unit};
}

}  // namespace

at::ScalarType scale_type(const BlockFormat& format) {
  return format.scale == ScaleEncoding::kFp32 ? at::kFloat : at::kByte;
}

std::int64_t scale_elements(const BlockFormat& format) {
  return format.scale == ScaleEncoding::kFp32 ? 1 : format.packed_scale_bytes();
}

SymShape outer_scales_shape(const SymShape& operand, const BlockFormat& format, OuterScale outer) {
  if (!format.has_outer_scale()) return {0, 0};
  const auto tiles = [](const c10::SymInt& n) { return (n + 127) / 128; };
  switch (outer) {
    case OuterScale::kTensor: break;
    case OuterScale::kRow: return {operand.rows, 1};
    case OuterScale::k1x128: return {operand.rows, tiles(operand.columns)};
    case OuterScale::k128x128: return {tiles(operand.rows), tiles(operand.columns)};
  }
  return {1, 1};
}

PackedOperand allocate(const SymShape& matrix, const QuantizeSpec& spec, const at::TensorOptions& options,
                       at::ScalarType codes) {
  const auto empty = [&](c10::SymInt rows, c10::SymInt columns, at::ScalarType type) {
    return at::empty_symint({std::move(rows), std::move(columns)}, options.dtype(type));
  };
  const BlockFormat& format = *spec.format;
  const SymShape shape = operand_shape(matrix, spec);
  const bool packed = codes == at::kByte;
  PackedOperand made;
  made.codes = empty(shape.rows, packed ? shape.columns / 2 : shape.columns, codes);
  if (packed) {
    made.scales = empty(shape.rows, shape.columns / spec.block_size() * scale_elements(format), scale_type(format));
  }
  if (packed || codes == at::kFloat8_e4m3fn) {
    const SymShape outer = outer_scales_shape(shape, format, spec.outer);
    made.outer_scales = empty(outer.rows, outer.columns, at::kFloat);
  }
  return made;
}

Quantized destination(const PackedOperand& operand) {
  const auto& [codes, scales, outer_scales] = operand;
  Quantized out;
  switch (codes.scalar_type()) {
    case at::kByte: out.codes = codes.mutable_data_ptr<std::uint8_t>(); break;
    case at::kFloat8_e4m3fn: out.e4m3 = static_cast<std::uint8_t*>(codes.mutable_data_ptr()); break;
    default:
      out.dequantized = codes.mutable_data_ptr();
      out.dequantized_dtype = codes.scalar_type() == at::kFloat ? DType::kF32 : DType::kBF16;
  }
  if (scales.defined() && scales.scalar_type() == at::kFloat) {
    out.scales = scales.mutable_data_ptr<float>();
  } else if (scales.defined()) {
    out.packed_scales = scales.mutable_data_ptr<std::uint8_t>();
  }
  if (outer_scales.defined() && outer_scales.sym_numel() != 0) {
    out.outer_scales = outer_scales.mutable_data_ptr<float>();
  }
  return out;
}

}  // namespace ufp4::ops
