// The layers of a transformer between its linears, for BF16 matrices in device memory, and the rounding of a weight to
// BF16: alone, and as sources of a quantization that never writes them. Both ways give the same bits: `quantize(layer,
// ..)` is `compute(layer, ..)` followed by cuda::quantize of its result.
//
// All matrices are dense and row-major, aligned to 16 bytes, with a number of columns that is a multiple of 8.
// Arithmetic is FP32 from BF16 values; results are rounded to BF16. Calls are asynchronous on the given stream,
// allocate nothing and may be captured into a CUDA graph. They throw InputError for arguments that are not as
// described, RunError if a launch fails.
#pragma once

#include <cstdint>
#include <span>

#include "cuda/quantize.h"
#include "cuda/rotary.h"
#include "ufp4/quantize.h"

namespace ufp4::cuda {

using Bf16 = std::uint16_t;  // the bits

// (x * rstd) * weight, [rows, columns].
struct RmsNorm {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const Bf16* x = nullptr;        // [rows, columns]
  const float* weight = nullptr;  // [columns]
  const float* rstd = nullptr;    // [rows], from rms_statistics
};

// silu(gate) * up, [rows, columns].
struct Swiglu {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const Bf16* h = nullptr;  // [rows, 2 * columns]: a row of gate, then one of up
};

// The gradient of Swiglu's h, [rows, 2 * columns]: that of gate, then that of up.
struct SwigluBackward {
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // of dy
  const Bf16* h = nullptr;   // [rows, 2 * columns]
  const Bf16* dy = nullptr;  // [rows, columns]
};

// An FP32 matrix rounded to BF16, [rows, columns]: a master weight as the linears take it.
struct Rounded {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const float* x = nullptr;  // [rows, columns]
};

// The gradient of heads before a rotary embedding turned them (cuda/rotary.h), from that of the turned ones, [rows,
// columns]: a row is a token, sequence after sequence, and has the heads of the parts one after the other.
struct RotaryBackward {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  RotaryPart parts[3];           // whose batch_stride is tokens * token_stride
  const float* table = nullptr;  // [tokens, size]: size / 2 cosines, size / 2 sines
  std::int64_t tokens = 0;       // of a sequence; rows * tokens < 2^32
  std::int64_t size = 0;         // of a head: a multiple of 16
};

// Writes the layer's result.
void compute(const RmsNorm& layer, Bf16* out, Stream stream);
void compute(const Swiglu& layer, Bf16* out, Stream stream);
void compute(const SwigluBackward& layer, Bf16* out, Stream stream);
void compute(const Rounded& layer, Bf16* out, Stream stream);
void compute(const RotaryBackward& layer, Bf16* out, Stream stream);

// Whether `quantize` below takes an operand of that spec along that axis. Not all that the kernels of matrices take:
// compute the layer and quantize its result for the others.
bool layers_take(const OperandSpec& spec, Axis axis);

// Whether the matrix or the heads lie in memory as described.
bool layers_take(const Rounded& layer);
bool layers_take(const RotaryBackward& layer);

// Quantizes the layer's result, which is not written, for every task. Tasks whose kernels share a policy and a
// rounding, one a row and one a column, read the layer's inputs once. Formats with levels that the kernels know no
// formula for are refused: compute the layer and quantize its result.
void quantize(const RmsNorm& layer, std::span<const DeviceTask> tasks, Stream stream);
void quantize(const Swiglu& layer, std::span<const DeviceTask> tasks, Stream stream);
void quantize(const SwigluBackward& layer, std::span<const DeviceTask> tasks, Stream stream);
void quantize(const Rounded& layer, std::span<const DeviceTask> tasks, Stream stream);
void quantize(const RotaryBackward& layer, std::span<const DeviceTask> tasks, Stream stream);

// What the second-level scales of the layer's result follow from, which is not written either: its inputs are read, and
// it is computed, once more than for the quantization.
void raise_outer_amax(const RmsNorm& layer, std::span<const AmaxTask> tasks, Stream stream);
void raise_outer_amax(const Swiglu& layer, std::span<const AmaxTask> tasks, Stream stream);
void raise_outer_amax(const SwigluBackward& layer, std::span<const AmaxTask> tasks, Stream stream);
void raise_outer_amax(const Rounded& layer, std::span<const AmaxTask> tasks, Stream stream);
void raise_outer_amax(const RotaryBackward& layer, std::span<const AmaxTask> tasks, Stream stream);

// rstd = 1 / sqrt(mean(x^2) + epsilon) of every row of x, or of x + branch, which is then written (BF16) to `sum`.
struct RmsStatistics {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const Bf16* x = nullptr;       // [rows, columns]
  const Bf16* branch = nullptr;  // [rows, columns]; null: statistics of x
  Bf16* sum = nullptr;           // [rows, columns], required with `branch`; may be x
  float* rstd = nullptr;         // [rows]
  double epsilon = 0;
};
void rms_statistics(const RmsStatistics& p, Stream stream);

// With n = x * rstd and g = dy * weight: dx = rstd * (g - n * mean(g n)), rounded to BF16 and then, where `residual` is
// given, added to it and rounded again; dweight = sum over the rows of dy * n, in an order that depends on the shape
// only.
struct RmsNormBackward {
  std::int64_t rows = 0;
  std::int64_t columns = 0;        // at most kLargestNorm
  const Bf16* x = nullptr;         // [rows, columns]
  const float* weight = nullptr;   // [columns]
  const float* rstd = nullptr;     // [rows]
  const Bf16* dy = nullptr;        // [rows, columns]
  const Bf16* residual = nullptr;  // [rows, columns]; null: dx alone
  Bf16* dx = nullptr;              // [rows, columns]; may be dy or residual
  float* dweight = nullptr;        // [columns]
  float* workspace = nullptr;      // rms_norm_backward_workspace() values
};
void rms_norm_backward(const RmsNormBackward& p, Stream stream);

// FP32 values that rms_norm_backward needs as workspace.
std::int64_t rms_norm_backward_workspace(std::int64_t rows, std::int64_t columns);

inline constexpr std::int64_t kLargestNorm = 16384;

// What the kernels ask of the columns of a layer, and of the size of a head.
inline constexpr std::int64_t kLayerWidthMultiple = 8;
inline constexpr std::int64_t kHeadMultiple = 16;

}  // namespace ufp4::cuda
