#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "cuda/int8_product.h"
#include "torch/int8_product.h"

namespace ufp4::cuda_int8 {

bool available(const at::Device& device) {
  if (!device.is_cuda() || device.index() >= c10::cuda::device_count()) return false;
  const c10::DeviceGuard guard(device);
  return cuda::int8_status().usable;
}

void run(const Int8Product& product) { cuda::int8_product(product, c10::cuda::getCurrentCUDAStream().stream()); }

}  // namespace ufp4::cuda_int8
