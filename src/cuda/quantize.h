// Quantization on NVIDIA GPUs: what ufp4::Backend does, for matrices in device memory. The bits are those of the scalar
// reference. Every call is asynchronous on the given stream, allocates nothing and may be captured into a CUDA graph.
#pragma once

#include <span>
#include <string>

#include "ufp4/quantize.h"

struct CUstream_st;  // what a cudaStream_t points to

namespace ufp4::cuda {

using Stream = CUstream_st*;  // null: the default stream

// Whether the kernels know the format with second-level scales of that kind.
bool has_kernels(const BlockFormat& format, OuterScale outer);

// Quantizes a matrix in the current device's memory for every task; all pointers of `tasks` are device pointers. A row
// task and a column task that share grid and rounding read the matrix once. Results must be aligned: codes to 8 bytes,
// dequantized values to 16. The matrix may lie anywhere its type may; rows aligned to 16 bytes are read fastest.
// Throws InputError for an invalid spec, view or destination, RunError if the launch fails.
void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, Stream stream);

// Writes level * scale * global_scale of every element to `out`, dense [rows, columns], kF32 or kBF16, in device
// memory.
void dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream);

// The values without the global scale as E4M3 bytes, dense [rows, columns], for int4_p2: what Quantized::e4m3 gets.
void dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream);

// Whether the current device can run the kernels.
struct DeviceStatus {
  bool usable = false;
  std::string sentence;  // the device's name, or the one sentence that says what is missing
};
DeviceStatus device_status();

}  // namespace ufp4::cuda
