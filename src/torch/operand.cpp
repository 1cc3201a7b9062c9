#include "torch/operand.h"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "torch/fp8.h"
#include "torch/kernels.h"
#include "torch/layer_kernels.h"
#include "torch/op_arguments.h"
#include "torch/operand_memory.h"

namespace ufp4 {
namespace {

// The operators of torch (ops.h) serve matrices and can be traced; what they do not know goes to the kernels directly.
bool for_operators(const Source& source, const OperandRequest& request) {
  return source.kind() == Source::Kind::kMatrix && request.form != Form::kE4m3 && request.window.expected == nullptr;
}

// Whether a kernel makes and quantizes in one.
bool fusible(const Source& source, std::span<const QuantizeTask> tasks) {
  if (source.kind() == Source::Kind::kMatrix || !source.input().is_cuda()) return false;
  const auto takes = layer_kernels_of(source.input().device()).takes;
  return std::all_of(tasks.begin(), tasks.end(), [&](const QuantizeTask& task) { return takes(source, task.spec); });
}

at::ScalarType code_type(Form form) {
  switch (form) {
    case Form::kE4m3: return at::kFloat8_e4m3fn;
    case Form::kPacked: return at::kByte;
    case Form::kBf16: break;
  }
  return at::kBFloat16;
}

// An operand and where it goes, allocated.
struct Allocated {
  QuantizeTask task;
  MadeOperand made;
};

Allocated allocate(const Source& source, const OperandRequest& request, Axis axis, const ops::RandomArgs& random) {
  const QuantizeSpec spec = ops::spec_of(request.args, axis, random, source.input().device());
  MadeOperand made =
      ops::allocate({source.rows(), source.columns()}, spec, source.input().options(), code_type(request.form));
  return {{spec, ops::destination(made)}, std::move(made)};
}

// Quantizes for all tasks by the kernels of the source's device.
void run(const Source& source, std::span<const QuantizeTask> tasks, std::span<const Window> windows) {
  const c10::DeviceGuard guard(source.input().device());
  if (fusible(source, tasks)) {
    return layer_kernels_of(source.input().device()).quantize_source(source, tasks, windows);
  }
  const at::Tensor matrix = source.compute().contiguous();
  kernels_of(matrix.device())
      .quantize({matrix.const_data_ptr(), DType::kBF16, matrix.size(0), matrix.size(1), matrix.size(1)}, tasks,
                windows);
}

}  // namespace

GemmOperand gemm_operand(MadeOperand made) {
  const bool fp8 = made.codes.scalar_type() == at::kFloat8_e4m3fn;
  return {std::move(made.codes), fp8 ? std::move(made.outer_scales) : at::Tensor()};
}

MadeOperand quantize(const Source& source, const OperandRequest& request, Axis axis, const ops::RandomArgs& random) {
  if (for_operators(source, request)) {
    if (request.form == Form::kPacked) return ops::quantize(source.input(), request.args, axis, random);
    return {ops::quantize_dequantize(source.input(), request.args, axis, random), {}, {}};
  }
  Allocated one = allocate(source, request, axis, random);
  run(source, {&one.task, 1}, {&request.window, 1});
  return std::move(one.made);
}

MadeOperands quantize_both(const Source& source, const OperandRequest& row, const OperandRequest& column,
                           const ops::RandomArgs& random) {
  if (for_operators(source, row) && for_operators(source, column) && row.form == Form::kBf16) {
    ops::BothOrientations both =
        ops::quantize_both(source.input(), row.args, column.args, random, column.form == Form::kPacked);
    return {{std::move(both.row), {}, {}}, std::move(both.column)};
  }
  Allocated rows = allocate(source, row, Axis::kRow, random);
  Allocated columns = allocate(source, column, Axis::kColumn, random);
  const std::array<QuantizeTask, 2> tasks{rows.task, columns.task};
  const std::array<Window, 2> windows{row.window, column.window};
  run(source, tasks, windows);
  return {std::move(rows.made), std::move(columns.made)};
}

GemmOperand unpack(const MadeOperand& packed, const ops::OperandArgs& args, Form form) {
  if (form != Form::kE4m3) return {ops::dequantize(packed, args), {}};
  const at::Tensor& codes = packed.codes;
  const c10::DeviceGuard guard(codes.device());
  at::Tensor values = at::empty({codes.size(0), codes.size(1) * 2}, codes.options().dtype(at::kFloat8_e4m3fn));
  ConstQuantized in;
  in.format = args.format;
  in.block = args.block;
  in.rows = values.size(0);
  in.columns = values.size(1);
  in.codes = codes.const_data_ptr<std::uint8_t>();
  in.packed_scales = packed.scales.const_data_ptr<std::uint8_t>();
  in.outer = args.outer;
  in.outer_scales = packed.outer_scales.const_data_ptr<float>();
  fp8_kernels_of(codes.device()).dequantize(in, static_cast<std::uint8_t*>(values.mutable_data_ptr()));
  return {values, packed.outer_scales};
}

}  // namespace ufp4
