#include "torch/cuda_windows.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include <vector>

#include "cuda/window.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

// FP32 zeros on the current device; the memory is given back in the order of the stream.
at::Tensor zeros(std::int64_t count) {
  return at::zeros({count}, at::TensorOptions().dtype(at::kFloat).device(at::kCUDA));
}

std::int64_t outer_count(const QuantizeTask& task, std::int64_t rows, std::int64_t columns) {
  const OuterShape shape =
      outer_shape(quantized_shape(rows, columns, task.spec, task.place.axis), task.spec.outer_each());
  return shape.rows * shape.columns;
}

}  // namespace

void quantize_in_windows(std::int64_t rows, std::int64_t columns, std::span<const DeviceTask> tasks,
                         std::span<const Window> windows, const DevicePasses& passes) {
  std::vector<DeviceTask> first(tasks.begin(), tasks.end());
  std::vector<DeviceTask> second;
  std::vector<cuda::WindowUse> uses;
  std::vector<cuda::AmaxTask> amax;
  std::vector<at::Tensor> scratch;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    QuantizeTask& task = first[i].task;
    if (!task.outer_amax_unknown() || cuda::finds_outer(passes.dtype, tasks[i])) continue;
    const Window window = windows.empty() ? Window{} : windows[i];
    if (window.expected == nullptr) {
      float* const found = scratch.emplace_back(zeros(outer_count(task, rows, columns))).mutable_data_ptr<float>();
      amax.push_back({task.spec, task.place, found});
      task.outer_amax = found;
      continue;
    }
    const cuda::WindowUse use{.format = task.spec.format,
                              .expected = window.expected,
                              .found = window.scratch,
                              .amax = window.scratch + 1,
                              .again = reinterpret_cast<std::uint32_t*>(window.scratch + 2),
                              .outer_scale = task.out.outer_scales,
                              .seen = window.seen,
                              .left = window.left};
    DeviceTask& again = second.emplace_back(tasks[i]);
    again.task.outer_amax = use.amax;
    again.task.out.outer_scales = nullptr;
    again.only_if = use.again;
    task.outer_amax = window.expected;
    task.out.amax = use.found;
    task.out.outer_scales = nullptr;
    uses.push_back(use);
  }
  if (!amax.empty()) passes.raise_outer_amax(amax);
  passes.quantize(first);
  if (second.empty()) return;
  cuda::settle(uses, c10::cuda::getCurrentCUDAStream().stream());
  passes.quantize(second);
}

}  // namespace ufp4
