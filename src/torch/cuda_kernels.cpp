#include <c10/cuda/CUDAStream.h>

#include "cuda/quantize.h"
#include "torch/kernels.h"

namespace ufp4::cuda_kernels {

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) {
  cuda::quantize(in, tasks, c10::cuda::getCurrentCUDAStream().stream());
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  cuda::dequantize(in, out, out_dtype, c10::cuda::getCurrentCUDAStream().stream());
}

}  // namespace ufp4::cuda_kernels
