// The launches of the kernels. The templates are instantiated for every input type, a file each.
#pragma once

#include "cuda/layers.h"
#include "cuda/operand.h"
#include "cuda/quantize.h"

namespace ufp4::cuda {

// Blocks along the stored rows: every thread reads its runs straight from memory.
template <DType kType>
void launch_rows(const Matrix& in, const Operand& row, Stream stream);

// Blocks along the columns of a matrix, along its rows, or both: a tile is read once into shared memory. One of
// `column` and `row` may be null; together they share policy and rounding, and `row` lies within a tile (fits_tile).
template <DType kType>
void launch_tiles(const Matrix& in, const Operand* column, const Operand* row, Stream stream);

// Operands that find their second-level scales (finds_outer). One of `column` and `row` may be null; together they
// share a rounding.
template <DType kType>
void launch_segments(const Matrix& in, const Operand* column, const Operand* row, Stream stream);

// The same for the result of a layer.
template <typename Layer>
void launch_layer_segments(const Layer& layer, const Operand* column, const Operand* row, Stream stream);

// The same for the result of a layer. Not Policy::kTable.
template <typename Layer>
void launch_layer_tiles(const Layer& layer, const Operand* column, const Operand* row, Stream stream);

// Writes the result of a layer.
template <typename Layer>
void launch_compute(const Layer& layer, Bf16* out, Stream stream);

void launch_rms_statistics(const RmsStatistics& p, Stream stream);
void launch_rms_norm_backward(const RmsNormBackward& p, Stream stream);

// Writes the second-level scales that tasks ask for: 1 for formats that have none.
void write_outer_scales(std::int64_t rows, std::int64_t columns, std::span<const DeviceTask> tasks, Stream stream);
void launch_outer_scales(const BlockFormat& format, const float* amax, std::int64_t count, float* to, Stream stream);

// Writes the values of packed codes, or value * block scale as E4M3 bytes.
void launch_dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream);
void launch_dequantize_int8(const ConstQuantized& in, std::int8_t* out, Stream stream);
void launch_dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream);

// The error of loading a kernel on the current device: whether its architecture was built in.
int probe_kernel();

// The architecture that the kernels for the current device were compiled for: 10 * major + minor; 0 if there are none.
int probe_architecture();

// Throws RunError for the error of a launch, naming the kernel and its shapes.
void check_launch(const char* kernel, std::int64_t rows, std::int64_t columns);

// Of the current device.
std::int64_t multiprocessors();

// Whether the current device has clusters of thread blocks, and the kernels that want them are built for it.
bool has_clusters();

}  // namespace ufp4::cuda
