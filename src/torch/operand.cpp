#include "torch/operand.h"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "torch/device_kernels.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return DType::kF32;
    case at::kBFloat16: return DType::kBF16;
    case at::kHalf: return DType::kF16;
    default:
      throw InputError(std::string("quantize: the matrix is ") + c10::toString(type) +
                       ", expected Float, BFloat16 or Half");
  }
}

// Kernels read rows that do not overlap and whose elements lie side by side; anything else is copied.
at::Tensor readable(const at::Tensor& matrix) {
  const bool rows = matrix.size(1) <= 1 || matrix.stride(1) == 1;
  const bool apart = matrix.size(0) <= 1 || matrix.stride(0) >= matrix.size(1);
  return rows && apart ? matrix : matrix.contiguous();
}

const std::uint32_t* number_at(const at::Tensor& number) {
  return number.defined() ? static_cast<const std::uint32_t*>(number.const_data_ptr()) : nullptr;
}

void check_number(std::string_view name, const at::Tensor& number, const at::Device& device) {
  if (!number.defined()) return;
  if (number.scalar_type() != at::kInt || number.sym_numel() != 1) {
    throw InputError(std::string(name) + " is " + c10::toString(number.scalar_type()) + " with " +
                     c10::str(number.sym_numel()) + " elements, expected Int with one");
  }
  if (number.device() == device) return;
  throw InputError(std::string(name) + " is on " + number.device().str() + ", expected " + device.str() +
                   ", the device of the data");
}

// An operand and where it goes, allocated.
struct Allocated {
  DeviceTask task;
  QuantizedTensor made;
};

Allocated allocate(const Source& source, const OperandRequest& request) {
  const at::Device device = source.input().device();
  const auto& [place, numbers] = request.at;
  check(numbers, device);
  validate(request.spec);
  QuantizedTensor made = ufp4::allocate(SymShape{source.rows(), source.columns()}, request.spec, place.axis,
                                        source.input().options(), request.form);
  const DeviceTask task{{request.spec, place, destination(made), nullptr},
                        {number_at(numbers.step), number_at(numbers.layer), number_at(numbers.first_token)},
                        nullptr};
  return {task, std::move(made)};
}

// Whether a kernel makes and quantizes in one.
bool fusible(const Source& source, std::span<const DeviceTask> tasks) {
  if (source.kind() == Source::Kind::kMatrix) return false;
  const auto takes = kernels_of(source.input().device()).takes_source;
  return takes != nullptr &&
         std::all_of(tasks.begin(), tasks.end(), [&](const DeviceTask& task) { return takes(source, task.task); });
}

// Quantizes for all tasks by the kernels of the source's device.
void run(const Source& source, std::span<const DeviceTask> tasks, std::span<const Window> windows) {
  const c10::DeviceGuard guard(source.input().device());
  const DeviceKernels& kernels = kernels_of(source.input().device());
  if (fusible(source, tasks)) return kernels.quantize_source(source, tasks, windows);
  const at::Tensor matrix = readable(source.compute());
  kernels.quantize({matrix.const_data_ptr(), dtype_of(matrix.scalar_type()), matrix.size(0), matrix.size(1),
                    std::max(matrix.stride(0), matrix.size(1))},
                   tasks, windows);
}

}  // namespace

void check(const DeviceNumbers& numbers, const at::Device& device) {
  check_number("step_tensor", numbers.step, device);
  check_number("layer_tensor", numbers.layer, device);
  check_number("token_tensor", numbers.first_token, device);
}

QuantizedTensor quantize(const Source& source, const OperandRequest& request) {
  Allocated one = allocate(source, request);
  run(source, {&one.task, 1}, {&request.window, 1});
  return std::move(one.made);
}

BothOperands quantize_both(const Source& source, const OperandRequest& row, const OperandRequest& column) {
  Allocated rows = allocate(source, row);
  Allocated columns = allocate(source, column);
  const std::array<DeviceTask, 2> tasks{rows.task, columns.task};
  const std::array<Window, 2> windows{row.window, column.window};
  run(source, tasks, windows);
  return {std::move(rows.made), std::move(columns.made)};
}

QuantizedTensor unpack(const QuantizedTensor& packed, const OperandSpec& spec, Form form) {
  const c10::DeviceGuard guard(packed.codes.device());
  const DeviceKernels& kernels = kernels_of(packed.codes.device());
  QuantizedTensor result;
  result.form = form;
  result.values =
      at::empty({packed.codes.size(0), packed.codes.size(1) * 2}, packed.codes.options().dtype(value_type(form)));
  QuantizedTensor dense = packed;
  for (at::Tensor* part : {&dense.codes, &dense.scales, &dense.outer_scales}) {
    if (part->defined()) *part = part->contiguous();
  }
  const ConstQuantized in = source_of(dense, spec);
  if (form == Form::kInt8) {
    if (kernels.dequantize_int8 == nullptr) {
      throw InputError("dequantize: no kernels on " + packed.codes.device().str() + " make INT8 operands of '" +
                       std::string(spec.format->name) + "'; the CPU has them");
    }
    kernels.dequantize_int8(in, result.values.mutable_data_ptr<std::int8_t>());
    result.outer_scales = packed.outer_scales;
  } else if (form == Form::kE4m3) {
    kernels.dequantize_e4m3(in, static_cast<std::uint8_t*>(result.values.mutable_data_ptr()));
    result.outer_scales = packed.outer_scales;
  } else {
    kernels.dequantize(in, result.values.mutable_data_ptr(), form == Form::kFp32 ? DType::kF32 : DType::kBF16);
  }
  return result;
}

}  // namespace ufp4
