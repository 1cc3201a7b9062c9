#include "torch/source.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>

#include "torch/layer_kernels.h"

namespace ufp4 {
namespace {

bool fusible(const Source& source, const ops::OperandArgs& row, const ops::OperandArgs& column) {
  const auto known = [](const ops::OperandArgs& args) { return args.format->rule == ScaleRule::kAmax; };
  return source.kind() != Source::Kind::kMatrix && source.input().is_cuda() && known(row) && known(column);
}

QuantizeSpec spec_of(const ops::OperandArgs& args, Axis axis, const ops::RandomArgs& random) {
  const bool row = axis == Axis::kRow;
  QuantizeSpec spec;
  spec.format = args.format;
  spec.block = args.block;
  spec.axis = axis;
  spec.rounding = args.rounding;
  if (args.hadamard != 0) spec.hadamard = make_hadamard(args.hadamard, random.hadamard_seed);
  spec.random = {random.seed, random.step, args.stream, row ? random.row_offset : random.column_offset,
                 row ? random.column_offset : random.row_offset};
  if (random.step_tensor) {
    spec.random.device_step = static_cast<const std::uint32_t*>(random.step_tensor->const_data_ptr());
  }
  return spec;
}

// An operand's destination, allocated: dequantized to BF16, or packed.
Quantized allocate(const Source& source, const QuantizeSpec& spec, bool packed, at::Tensor& values,
                   at::Tensor& scales) {
  const QuantizedShape shape = quantized_shape(source.rows(), source.columns(), spec);
  const at::TensorOptions options = source.input().options();
  Quantized out;
  if (packed) {
    values = at::empty({shape.rows, shape.codes_per_row()}, options.dtype(at::kByte));
    scales = at::empty({shape.rows, shape.scales_per_row}, options.dtype(at::kFloat));
    out.codes = values.mutable_data_ptr<std::uint8_t>();
    out.scales = scales.mutable_data_ptr<float>();
  } else {
    values = at::empty({shape.rows, shape.columns}, options);
    out.dequantized = values.mutable_data_ptr();
  }
  return out;
}

}  // namespace

at::Tensor Source::compute() const {
  switch (kind_) {
    case Kind::kMatrix: return input_;
    case Kind::kRmsNorm: return rms_norm_forward({input_, rstd_}, weight_);
    case Kind::kSwiglu: return swiglu_forward(input_);
    case Kind::kSwigluBackward: return ufp4::swiglu_backward(dy_, input_);
  }
  return {};
}

ops::BothOrientations quantize_both(const Source& source, const ops::OperandArgs& row, const ops::OperandArgs& column,
                                    const ops::RandomArgs& random, bool packed) {
  if (!fusible(source, row, column)) return ops::quantize_both(source.compute(), row, column, random, packed);
  ops::BothOrientations result;
  const QuantizeSpec row_spec = spec_of(row, Axis::kRow, random);
  const QuantizeSpec column_spec = spec_of(column, Axis::kColumn, random);
  at::Tensor no_scales;
  const std::array<QuantizeTask, 2> tasks{
      {{row_spec, allocate(source, row_spec, false, result.row, no_scales)},
       {column_spec, allocate(source, column_spec, packed, result.column.codes, result.column.scales)}}};
  result.column.outer_scales = at::empty({0, 0}, source.input().options().dtype(at::kFloat));
  layer_kernels_of(source.input().device()).quantize_source(source, tasks);
  return result;
}

}  // namespace ufp4
