#include <c10/cuda/CUDAStream.h>

#include "cuda/quantize.h"
#include "torch/cuda_windows.h"
#include "torch/kernels.h"

namespace ufp4::cuda_kernels {

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, std::span<const Window> windows) {
  quantize_in_windows(tasks, windows, [&](std::span<const QuantizeTask> known) {
    cuda::quantize(in, known, c10::cuda::getCurrentCUDAStream().stream());
  });
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  cuda::dequantize(in, out, out_dtype, c10::cuda::getCurrentCUDAStream().stream());
}

}  // namespace ufp4::cuda_kernels
