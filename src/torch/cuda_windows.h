// Quantization on a GPU whose second-level scales are chosen there: from what windows expect, or exactly.
#pragma once

#include <functional>
#include <span>

#include "cuda/quantize.h"
#include "torch/window.h"

namespace ufp4 {

// How the kernels read one matrix, or what stands for it.
struct DevicePasses {
  DType dtype;  // of the values that are read
  std::function<void(std::span<const cuda::AmaxTask>)> raise_outer_amax;
  std::function<void(std::span<const DeviceTask>)> quantize;
};

// Quantizes with second-level scales that are known on the device when the kernels run. Where nothing is expected of a
// task, a pass over the operand finds what its scales follow from. Where a window expects something, the operand is
// quantized for that, and once more if it did not fit. The stored matrix is [rows, columns]; `windows`: one for each
// task, or none.
void quantize_in_windows(std::int64_t rows, std::int64_t columns, std::span<const DeviceTask> tasks,
                         std::span<const Window> windows, const DevicePasses& passes);

}  // namespace ufp4
