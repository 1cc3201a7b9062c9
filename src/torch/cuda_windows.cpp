#include "torch/cuda_windows.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include <vector>

#include "cuda/window.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

bool in_window(const QuantizeTask& task) {
  return task.spec.format != nullptr && task.spec.format->rule == ScaleRule::kPow2Window &&
         task.spec.outer == OuterScale::kTensor && task.spec.outer_amax_unknown();
}

}  // namespace

void quantize_in_windows(std::span<const QuantizeTask> tasks, std::span<const Window> windows,
                         const std::function<void(std::span<const QuantizeTask>)>& quantize) {
  std::vector<QuantizeTask> first;
  std::vector<QuantizeTask> second;
  std::vector<cuda::WindowUse> uses;
  std::vector<at::Tensor> scratch;  // its memory is given back in the order of the stream
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    first.push_back(tasks[i]);
    if (!in_window(tasks[i])) continue;
    Window window = windows.empty() ? Window{} : windows[i];
    const bool exact = window.expected == nullptr;
    if (window.scratch == nullptr) {
      scratch.push_back(at::zeros({Window::kScratch}, at::TensorOptions().dtype(at::kFloat).device(at::kCUDA)));
      window.scratch = scratch.back().mutable_data_ptr<float>();
    }
    const cuda::WindowUse use{.expected = window.expected,
                              .found = window.scratch,
                              .amax = window.scratch + 1,
                              .again = reinterpret_cast<std::uint32_t*>(window.scratch + 2),
                              .outer_scale = tasks[i].out.outer_scales,
                              .seen = window.seen,
                              .left = window.left};
    QuantizeTask& expecting = first.back();
    if (exact) {
      expecting.out = {};
      expecting.spec.tensor_amax = 1;
    } else {
      expecting.spec.outer_amax = window.expected;
    }
    expecting.out.amax = use.found;
    expecting.out.outer_scales = nullptr;
    QuantizeTask& again = second.emplace_back(tasks[i]);
    again.spec.outer_amax = use.amax;
    again.out.outer_scales = nullptr;
    if (!exact) again.only_if = use.again;
    uses.push_back(use);
  }
  quantize(first);
  if (second.empty()) return;
  cuda::settle(uses, c10::cuda::getCurrentCUDAStream().stream());
  quantize(second);
}

}  // namespace ufp4
