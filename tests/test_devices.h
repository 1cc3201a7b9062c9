// The devices of torch that there are here.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "torch/kernels.h"
#include "ufp4/backend.h"

namespace ufp4 {

inline std::vector<at::Device> test_devices() {
  std::vector<at::Device> list{at::kCPU};
  const at::Device gpu(at::kCUDA, 0);
  if (has_kernels(gpu) && find_backend("cuda").available()) list.push_back(gpu);
  return list;
}

}  // namespace ufp4
