// The kernels behind torch.ops.ufp4.*, one set a device. The operators (ops.cpp) check the arguments, allocate the
// results and call the kernels of the tensor's device.
#pragma once

#include <c10/core/Device.h>

#include <span>

#include "torch/window.h"
#include "ufp4/quantize.h"

namespace ufp4 {

// What a device must do: pointers are of its memory, and it is torch's current one; work may go on after the return, in
// the order of torch's stream.
struct Kernels {
  // `windows`: one for each task, or none.
  void (*quantize)(const ConstMatrix& in, std::span<const QuantizeTask> tasks,
                   std::span<const Window> windows) = nullptr;
  void (*dequantize)(const ConstQuantized& in, void* out, DType out_dtype) = nullptr;
  // Whether they know the format with second-level scales of that kind.
  bool (*take)(const BlockFormat& format, OuterScale outer) = nullptr;
};

// Whether this build quantizes on the device.
bool has_kernels(const at::Device& device);

// Throws InputError for a device without kernels.
const Kernels& kernels_of(const at::Device& device);

}  // namespace ufp4

namespace ufp4::cpu_kernels {

// Backend::quantize over torch's threads: each takes some rows of the matrix and reads them once for all tasks.
void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, std::span<const Window> windows);

// Backend::dequantize over torch's threads.
void dequantize(const ConstQuantized& in, void* out, DType out_dtype);

}  // namespace ufp4::cpu_kernels

// Only in a build with CUDA: ufp4::cuda on torch's current stream.
namespace ufp4::cuda_kernels {

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, std::span<const Window> windows);
void dequantize(const ConstQuantized& in, void* out, DType out_dtype);

}  // namespace ufp4::cuda_kernels
