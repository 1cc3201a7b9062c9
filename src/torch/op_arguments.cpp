#include "torch/op_arguments.h"

#include <ATen/ops/empty.h>

#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::ops {
namespace {

// Of one operand, as the schemas have it.
struct OperandSchema {
  std::string_view format;
  std::int64_t block;
  std::int64_t hadamard;
  std::string_view rounding;
  std::string_view outer;
  double tau;
};

// What the operands of one matrix share.
struct PlaceSchema {
  std::int64_t hadamard_seed;
  std::int64_t seed;
  std::int64_t step;
  std::int64_t row_offset;  // of the matrix
  std::int64_t column_offset;
  const std::optional<at::Tensor>& step_tensor;  // stands for `step` where it is given
};

OperandRequest to_request(const OperandSchema& operand, const PlaceSchema& from, Axis axis, std::int64_t stream,
                          Form form) {
  OperandRequest request;
  OperandSpec& spec = request.spec;
  spec.format = &find_format(operand.format);
  spec.block = to_size("block", operand.block);
  spec.rounding = find_rounding(operand.rounding);
  spec.hadamard = make_hadamard(to_size("hadamard", operand.hadamard), static_cast<std::uint64_t>(from.hadamard_seed));
  spec.outer.each = find_outer_scale(operand.outer);
  spec.options.tau = static_cast<float>(operand.tau);
  validate(spec);
  // The rows of a column-wise operand are the stored columns.
  const bool row = axis == Axis::kRow;
  request.at.place = {.axis = axis,
                      .seed = static_cast<std::uint64_t>(from.seed),
                      .step = to_u32("step", from.step),
                      .stream = to_u32("stream", stream),
                      .row_offset = to_u32("row_offset", row ? from.row_offset : from.column_offset),
                      .column_offset = to_u32("column_offset", row ? from.column_offset : from.row_offset)};
  request.at.device.step = from.step_tensor.value_or(at::Tensor());
  request.form = form;
  return request;
}

}  // namespace

std::string dtype_name(at::ScalarType type) { return c10::toString(type); }

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

OperandRequest one_request(std::string_view format, std::int64_t block, std::string_view axis, std::int64_t hadamard,
                           std::int64_t hadamard_seed, std::string_view rounding, std::int64_t seed, std::int64_t step,
                           std::int64_t stream, std::int64_t row_offset, std::int64_t column_offset,
                           std::string_view outer, double tau, const std::optional<at::Tensor>& step_tensor) {
  const Axis along = find_axis(axis);
  // Offsets of one operand are in its own coordinates.
  const bool row = along == Axis::kRow;
  return to_request(
      {format, block, hadamard, rounding, outer, tau},
      {hadamard_seed, seed, step, row ? row_offset : column_offset, row ? column_offset : row_offset, step_tensor},
      along, stream, Form::kPacked);
}

BothRequests both_requests(std::string_view row_format, std::string_view column_format, std::int64_t row_block,
                           std::int64_t column_block, std::int64_t row_hadamard, std::int64_t column_hadamard,
                           std::string_view row_rounding, std::string_view column_rounding, std::int64_t row_stream,
                           std::int64_t column_stream, std::string_view row_outer, std::string_view column_outer,
                           double row_tau, double column_tau, std::int64_t hadamard_seed, std::int64_t seed,
                           std::int64_t step, std::int64_t row_offset, std::int64_t column_offset, bool packed,
                           const std::optional<at::Tensor>& step_tensor) {
  const PlaceSchema place{hadamard_seed, seed, step, row_offset, column_offset, step_tensor};
  return {to_request({row_format, row_block, row_hadamard, row_rounding, row_outer, row_tau}, place, Axis::kRow,
                     row_stream, Form::kBf16),
          to_request({column_format, column_block, column_hadamard, column_rounding, column_outer, column_tau}, place,
                     Axis::kColumn, column_stream, packed ? Form::kPacked : Form::kBf16)};
}

BothResults both_results(const BothOperands& both) {
  const auto given = [&](const at::Tensor& t) {
    return t.defined() ? t : at::empty({0, 0}, both.row.values.options().dtype(at::kFloat));
  };
  const QuantizedTensor& column = both.column;
  return {both.row.values, column.form == Form::kPacked ? column.codes : column.values, given(column.scales),
          given(column.outer_scales)};
}

}  // namespace ufp4::ops
