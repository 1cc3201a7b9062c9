#include "torch/op_arguments.h"

#include <ATen/ops/empty.h>

#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::ops {
namespace {

Axis to_axis(std::string_view axis) {
  if (axis == "row") return Axis::kRow;
  if (axis == "column") return Axis::kColumn;
  throw InputError("axis '" + std::string(axis) + "' is neither 'row' nor 'column'");
}

Rounding to_rounding(std::string_view rounding) {
  if (rounding == "rtne") return Rounding::kNearest;
  if (rounding == "sr") return Rounding::kStochastic;
  throw InputError("rounding '" + std::string(rounding) + "' is neither 'rtne' nor 'sr'");
}

// As the schemas have them.
struct OperandSchema {
  std::string_view format;
  std::int64_t block;
  std::int64_t hadamard;
  std::string_view rounding;
  std::int64_t stream;
  std::string_view outer;
  double tau;
};

OperandArgs to_operand(const OperandSchema& from) {
  return {&find_format(from.format),   to_size("block", from.block),  to_size("hadamard", from.hadamard),
          to_rounding(from.rounding),  to_u32("stream", from.stream), find_outer_scale(from.outer),
          static_cast<float>(from.tau)};
}

struct RandomSchema {
  std::int64_t hadamard_seed;
  std::int64_t seed;
  std::int64_t step;
  std::int64_t row_offset;  // of the matrix
  std::int64_t column_offset;
  const std::optional<at::Tensor>& step_tensor;  // stands for `step` where it is given
};

RandomArgs to_random(const RandomSchema& from) {
  if (from.step_tensor && (from.step_tensor->scalar_type() != at::kInt || from.step_tensor->numel() != 1)) {
    throw InputError("step_tensor is " + dtype_name(from.step_tensor->scalar_type()) + " with " +
                     std::to_string(from.step_tensor->numel()) + " elements, expected Int with one");
  }
  return {static_cast<std::uint64_t>(from.hadamard_seed),
          static_cast<std::uint64_t>(from.seed),
          to_u32("step", from.step),
          to_u32("row_offset", from.row_offset),
          to_u32("column_offset", from.column_offset),
          from.step_tensor};
}

}  // namespace

std::string dtype_name(at::ScalarType type) { return c10::toString(type); }

std::string_view name_of(Axis axis) { return axis == Axis::kRow ? "row" : "column"; }

std::string_view name_of(Rounding rounding) { return rounding == Rounding::kNearest ? "rtne" : "sr"; }

void check_matrix(std::string_view name, const at::Tensor& t) {
  if (t.dim() == 2) return;
  throw InputError(std::string(name) + " has " + std::to_string(t.dim()) + " dimensions, expected a matrix");
}

std::uint32_t to_u32(std::string_view name, std::int64_t value, std::int64_t largest) {
  if (value < 0 || value > largest) {
    throw InputError(std::string(name) + " is " + std::to_string(value) + ", expected 0 to " + std::to_string(largest));
  }
  return static_cast<std::uint32_t>(value);
}

int to_size(std::string_view name, std::int64_t value) {
  if (value < 0 || value > 128)
    throw InputError(std::string(name) + " is " + std::to_string(value) + ", expected 0, 16, 32, 64 or 128");
  return static_cast<int>(value);
}

QuantizeSpec spec_of(const OperandArgs& args, Axis axis, const RandomArgs& random, const at::Device& device) {
  if (random.step_tensor && random.step_tensor->device() != device) {
    throw InputError("step_tensor is on " + random.step_tensor->device().str() + ", expected " + device.str() +
                     ", the device of the data");
  }
  const bool row = axis == Axis::kRow;
  QuantizeSpec spec;
  spec.format = args.format;
  spec.block = args.block;
  spec.axis = axis;
  spec.rounding = args.rounding;
  spec.outer = args.outer;
  spec.tau = args.tau;
  if (args.hadamard != 0) spec.hadamard = make_hadamard(args.hadamard, random.hadamard_seed);
  // The rows of a column-wise operand are the stored columns.
  spec.random = {random.seed, random.step, args.stream, row ? random.row_offset : random.column_offset,
                 row ? random.column_offset : random.row_offset};
  // The step of a CPU's tensor is its value, that of a GPU's its place, for the kernel to read when it runs.
  if (random.step_tensor && random.step_tensor->is_cuda()) {
    spec.random.device_step = static_cast<const std::uint32_t*>(random.step_tensor->const_data_ptr());
  } else if (random.step_tensor && random.step_tensor->is_cpu()) {
    spec.random.step = static_cast<std::uint32_t>(*random.step_tensor->const_data_ptr<std::int32_t>());
  }
  quantized_shape(0, 0, spec);
  return spec;
}

OneArguments one_arguments(std::string_view format, std::int64_t block, std::string_view axis, std::int64_t hadamard,
                           std::int64_t hadamard_seed, std::string_view rounding, std::int64_t seed, std::int64_t step,
                           std::int64_t stream, std::int64_t row_offset, std::int64_t column_offset,
                           std::string_view outer, double tau, const std::optional<at::Tensor>& step_tensor) {
  OneArguments result{to_operand({format, block, hadamard, rounding, stream, outer, tau}), to_axis(axis),
                      to_random({hadamard_seed, seed, step, row_offset, column_offset, step_tensor})};
  if (result.axis == Axis::kColumn) std::swap(result.random.row_offset, result.random.column_offset);
  return result;
}

BothArguments both_arguments(std::string_view row_format, std::string_view column_format, std::int64_t row_block,
                             std::int64_t column_block, std::int64_t row_hadamard, std::int64_t column_hadamard,
                             std::string_view row_rounding, std::string_view column_rounding, std::int64_t row_stream,
                             std::int64_t column_stream, std::string_view row_outer, std::string_view column_outer,
                             double row_tau, double column_tau, std::int64_t hadamard_seed, std::int64_t seed,
                             std::int64_t step, std::int64_t row_offset, std::int64_t column_offset, bool packed,
                             const std::optional<at::Tensor>& step_tensor) {
  return {to_operand({row_format, row_block, row_hadamard, row_rounding, row_stream, row_outer, row_tau}),
          to_operand(
              {column_format, column_block, column_hadamard, column_rounding, column_stream, column_outer, column_tau}),
          to_random({hadamard_seed, seed, step, row_offset, column_offset, step_tensor}), packed};
}

BothResults both_results(const at::Tensor& row, const PackedOperand& column) {
  const auto given = [&](const at::Tensor& t) {
    return t.defined() ? t : at::empty({0, 0}, row.options().dtype(at::kFloat));
  };
  return {row, column.codes, given(column.scales), given(column.outer_scales)};
}

}  // namespace ufp4::ops
