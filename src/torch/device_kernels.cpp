#include "torch/device_kernels.h"

#include <string>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

const DeviceKernels* find_kernels(const at::Device& device) {
  if (device.is_cpu()) return &cpu_kernels::kKernels;
#ifdef UFP4_HAVE_CUDA
  if (device.is_cuda()) return &cuda_kernels::kKernels;
#endif
  return nullptr;
}

}  // namespace

bool has_kernels(const at::Device& device) { return find_kernels(device) != nullptr; }

const DeviceKernels& kernels_of(const at::Device& device) {
  if (const DeviceKernels* const kernels = find_kernels(device); kernels != nullptr) return *kernels;
  throw InputError("quantization on device '" + device.str() + "' is not in this build" +
                   (device.is_cuda() ? ": configure with -DUFP4_CUDA=ON (preset cuda), or use the CPU" : ""));
}

}  // namespace ufp4
