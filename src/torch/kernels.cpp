#include "torch/kernels.h"

#include <string>

#include "torch/fp8.h"
#include "torch/layer_kernels.h"
#include "ufp4/error.h"

#ifdef UFP4_HAVE_CUDA
#include "cuda/quantize.h"
#endif

namespace ufp4 {
namespace {

#ifdef UFP4_HAVE_CUDA
constexpr bool kCudaBuilt = true;
constexpr Kernels kCudaKernels{cuda_kernels::quantize, cuda_kernels::dequantize, cuda::has_kernels};
#else
constexpr bool kCudaBuilt = false;
constexpr Kernels kCudaKernels{};
#endif
constexpr Kernels kCpuKernels{cpu_kernels::quantize, cpu_kernels::dequantize,
                              [](const BlockFormat&, OuterScale) { return true; }};

}  // namespace

bool has_kernels(const at::Device& device) { return device.is_cpu() || (device.is_cuda() && kCudaBuilt); }

namespace {

void check_built(const at::Device& device) {
  if (has_kernels(device)) return;
  throw InputError("quantization on device '" + device.str() + "' is not in this build" +
                   (device.is_cuda() ? ": configure with -DUFP4_CUDA=ON (preset cuda), or use the CPU" : ""));
}

}  // namespace

const Kernels& kernels_of(const at::Device& device) {
  check_built(device);
  return device.is_cpu() ? kCpuKernels : kCudaKernels;
}

bool has_fp8(const at::Device& device) {
#ifdef UFP4_HAVE_CUDA
  return device.is_cuda() && cuda_fp8::kKernels.available(device);
#else
  static_cast<void>(device);
  return false;
#endif
}

const Fp8Kernels& fp8_kernels_of(const at::Device& device) {
  if (!has_fp8(device)) throw InputError("device '" + device.str() + "' has no FP8 tensor cores that this build knows");
#ifdef UFP4_HAVE_CUDA
  return cuda_fp8::kKernels;
#else
  static const Fp8Kernels none;
  return none;
#endif
}

const LayerKernels& layer_kernels_of(const at::Device& device) {
  check_built(device);
#ifdef UFP4_HAVE_CUDA
  return cuda_layers::kKernels;
#else
  static const LayerKernels none;
  return none;
#endif
}

}  // namespace ufp4
