#include <c10/cuda/CUDAStream.h>

#include "cuda/quantize.h"
#include "torch/cuda_windows.h"
#include "torch/device_kernels.h"

namespace ufp4::cuda_kernels {
namespace {

cuda::Stream stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void quantize(const ConstMatrix& in, std::span<const DeviceTask> tasks, std::span<const Window> windows) {
  quantize_in_windows(
      in.rows, in.columns, tasks, windows,
      {in.dtype, [&](std::span<const cuda::AmaxTask> amax) { cuda::raise_outer_amax(in, amax, stream()); },
       [&](std::span<const DeviceTask> known) { cuda::quantize(in, known, stream()); }});
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  cuda::dequantize(in, out, out_dtype, stream());
}

void dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out) { cuda::dequantize_e4m3(in, out, stream()); }

void dequantize_int8(const ConstQuantized& in, std::int8_t* out) { cuda::dequantize_int8(in, out, stream()); }

}  // namespace

const DeviceKernels kKernels{.take = cuda::takes,
                             .quantize = quantize,
                             .dequantize = dequantize,
                             .dequantize_e4m3 = dequantize_e4m3,
                             .dequantize_int8 = dequantize_int8,
                             .takes_source = takes_source,
                             .quantize_source = quantize_source,
                             .layers = &kLayers};

}  // namespace ufp4::cuda_kernels
