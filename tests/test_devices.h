// The devices of torch that there are here.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "gpu_usable.h"

namespace ufp4 {

inline std::vector<at::Device> test_devices() {
  std::vector<at::Device> list{at::kCPU};
  if (gpu_usable()) list.emplace_back(at::kCUDA, 0);
  return list;
}

}  // namespace ufp4
