#include "train/device.h"

#include <ATen/Context.h>

#include "torch/kernels.h"
#include "ufp4/error.h"

namespace ufp4 {

at::Device choose_device(const std::string& name, const std::string& setting) {
  const bool there = at::hasCUDA() && at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount() > 0;
  const bool built = has_kernels(at::Device(at::kCUDA, 0));
  if (name == "cpu" || (name == "auto" && !(there && built))) return {at::kCPU};
  if (!built) {
    throw InputError(setting +
                     " is 'cuda', but this build has no CUDA kernels: configure with -DUFP4_CUDA=ON, or use the CPU");
  }
  if (!there) throw InputError(setting + " is 'cuda', but no CUDA device is usable here; use the CPU");
  // FP32 accumulation throughout: cuBLAS may otherwise add partial sums of a product in BF16.
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  return {at::kCUDA, 0};
}

}  // namespace ufp4
