// What a device can do for the operators and the layers, one table a kind of device: the CPU and, in a build with CUDA,
// NVIDIA GPUs. Callers check the arguments, allocate the results, and make the device torch's current one. Work may go
// on after the return, in the order of torch's stream.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <span>
#include <vector>

#include "numerics/device_task.h"
#include "torch/layer_passes.h"
#include "torch/source.h"
#include "torch/window.h"
#include "ufp4/quantize.h"

namespace ufp4 {

// What the widths of a model must be for the kernels.
struct LayerLimits {
  std::int64_t width_multiple = 1;  // of what norms and the SwiGLU take and make
  std::int64_t head_multiple = 1;   // of the size of a head
  std::int64_t largest_norm = 0;    // width of a norm; 0: any
};

// The layers between the linears (torch/layer_passes.h). Tensors are dense but for heads.
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
};

struct DeviceKernels {
  // Whether there are kernels for such an operand.
  bool (*take)(const OperandSpec& spec) = nullptr;
  // Pointers of matrix and tasks are of the device's memory. `windows`: one for each task, or none.
  void (*quantize)(const ConstMatrix& in, std::span<const DeviceTask> tasks, std::span<const Window> windows) = nullptr;
  void (*dequantize)(const ConstQuantized& in, void* out, DType out_dtype) = nullptr;
  // Level * block scale of packed codes as E4M3 bytes, dense [rows, columns], exact (ExactValue::kE4m3).
  void (*dequantize_e4m3)(const ConstQuantized& in, std::uint8_t* out) = nullptr;
  // The same as integers (ExactValue::kInt8). Null: there are no kernels for it.
  void (*dequantize_int8)(const ConstQuantized& in, std::int8_t* out) = nullptr;
  // Whether quantize_source takes such a task. Null: there are no kernels that make what they quantize.
  bool (*takes_source)(const Source& source, const QuantizeTask& task) = nullptr;
  // Quantizes what `source` makes, without writing it; not for Source::Kind::kMatrix.
  void (*quantize_source)(const Source& source, std::span<const DeviceTask> tasks,
                          std::span<const Window> windows) = nullptr;
  const LayerKernels* layers = nullptr;
};

// Whether this build has kernels for the device.
bool has_kernels(const at::Device& device);

// Throws InputError for a device without kernels.
const DeviceKernels& kernels_of(const at::Device& device);

}  // namespace ufp4

namespace ufp4::cpu_kernels {
extern const DeviceKernels kKernels;
extern const LayerKernels kLayers;
}  // namespace ufp4::cpu_kernels

// Only in a build with CUDA.
namespace ufp4::cuda_kernels {
extern const DeviceKernels kKernels;
extern const LayerKernels kLayers;
// The rest of kKernels, where the layers are.
bool takes_source(const Source& source, const QuantizeTask& task);
void quantize_source(const Source& source, std::span<const DeviceTask> tasks, std::span<const Window> windows);
}  // namespace ufp4::cuda_kernels
