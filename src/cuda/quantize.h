// Quantization on NVIDIA GPUs: what ufp4::Backend does, for matrices in device memory. The bits are those of the scalar
// reference. Every call is asynchronous on the given stream, allocates nothing and may be captured into a CUDA graph.
#pragma once

#include <span>
#include <string>

#include "numerics/device_task.h"
#include "ufp4/quantize.h"

struct CUstream_st;  // what a cudaStream_t points to

namespace ufp4::cuda {

using Stream = CUstream_st*;  // null: the default stream

// Whether the kernels know the format, with every second-level scale that it allows.
bool has_kernels(const BlockFormat& format);

// Whether `quantize` takes operands of that spec: those of formats with kernels, unless the transform's result is
// rounded.
bool takes(const OperandSpec& spec);

// Quantizes a matrix in the current device's memory for every task; all pointers of `tasks` are device pointers. A row
// task and a column task whose kernels share a policy and a rounding read the matrix once. Results must be aligned:
// codes to 8 bytes, dequantized values to 16, selectors and the packed scales of hif4 to 4. The matrix may lie anywhere
// its type may; rows aligned to 16 bytes are read fastest. Formats with second-level scales need outer_amax
// (raise_outer_amax finds it) but where finds_outer says otherwise. Throws InputError for an invalid spec, view or
// destination, RunError if the launch fails.
void quantize(const ConstMatrix& in, std::span<const DeviceTask> tasks, Stream stream);

// Whether `quantize` finds what the second-level scales of the task follow from in its own read, so that outer_amax may
// be null: where a scale belongs to a short segment of a row, of matrices of 16-bit values, on a device that has
// clusters of thread blocks.
bool finds_outer(DType dtype, const DeviceTask& task);

// What the second-level scales of an operand follow from.
struct AmaxTask {
  OperandSpec spec;
  Place place;            // of it the axis is read, and the seed of a transform
  float* amax = nullptr;  // [outer_shape] in device memory: raised, so it begins at 0
};

// Raises each `amax` to the largest magnitudes, after the transform, of the operand's blocks without NaN or infinity:
// what QuantizeTask::outer_amax takes. A row task and a column task read the matrix once.
void raise_outer_amax(const ConstMatrix& in, std::span<const AmaxTask> tasks, Stream stream);

// Writes level * scale * second-level scale of every element to `out`, dense [rows, columns], kF32 or kBF16, in device
// memory.
void dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream);

// The values without the second-level scale as E4M3 bytes, dense [rows, columns], for formats with ExactValue::kE4m3:
// what Quantized::e4m3 gets.
void dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream);
// What Quantized::int8 gets.
void dequantize_int8(const ConstQuantized& in, std::int8_t* out, Stream stream);

// Whether the current device can run the kernels.
struct DeviceStatus {
  bool usable = false;
  std::string sentence;  // the device's name, or the one sentence that says what is missing
};
DeviceStatus device_status();

}  // namespace ufp4::cuda
