// The kernels behind torch/layer_passes.h and torch/source.h on devices other than the CPU, one set a device. Results
// are allocated by the caller; work goes on after the return, in the order of torch's stream.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <span>
#include <vector>

#include "torch/layer_passes.h"
#include "torch/source.h"
#include "torch/window.h"
#include "ufp4/quantize.h"

namespace ufp4 {

// What the widths of a model must be for the kernels.
struct LayerLimits {
  std::int64_t width_multiple = 1;  // of what norms and the SwiGLU take and make
  std::int64_t head_multiple = 1;   // of the size of a head
  std::int64_t largest_norm = 0;    // width of a norm
};

struct LayerKernels {
  LayerLimits limits;
  void (*rms_statistics)(const at::Tensor& x, const at::Tensor& branch, double epsilon, const at::Tensor& sum,
                         const at::Tensor& rstd) = nullptr;
  void (*rms_norm)(const RmsStatistics& of, const at::Tensor& weight, const at::Tensor& y) = nullptr;
  void (*rms_norm_backward)(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                            const at::Tensor& residual, const RmsNormGradients& result) = nullptr;
  void (*swiglu)(const at::Tensor& h, const at::Tensor& y) = nullptr;
  void (*swiglu_backward)(const at::Tensor& dy, const at::Tensor& h, const at::Tensor& dh) = nullptr;
  void (*rotary)(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction,
                 const at::Tensor& to) = nullptr;
  // -log softmax(logits)[target] of every row [n, vocabulary] BF16; where `gradient`, the logits become (softmax - one
  // hot) * scale.
  void (*cross_entropy)(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses, bool gradient,
                        double scale) = nullptr;
  // Whether quantize_source takes such a task.
  bool (*takes)(const Source& source, const QuantizeSpec& spec) = nullptr;
  // Quantizes what `source` makes, without writing it; not for Source::Kind::kMatrix. `windows`: one for each task, or
  // none.
  void (*quantize_source)(const Source& source, std::span<const QuantizeTask> tasks,
                          std::span<const Window> windows) = nullptr;
};

// Throws InputError for a device without kernels.
const LayerKernels& layer_kernels_of(const at::Device& device);

}  // namespace ufp4

// Only in a build with CUDA.
namespace ufp4::cuda_layers {
extern const LayerKernels kKernels;
}  // namespace ufp4::cuda_layers
