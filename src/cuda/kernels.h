// The launches of the kernels. The templates are instantiated for every input type, a file each.
#pragma once

#include "cuda/operand.h"
#include "cuda/quantize.h"

namespace ufp4::cuda {

// Blocks along the stored rows: every thread reads its runs straight from memory.
template <DType kType>
void launch_rows(const Matrix& in, const Operand& row, Stream stream);

// Blocks along the stored columns, and along the rows too where `row` is given: a tile is read once into shared memory.
// `row` shares grid and rounding with `column` and lies within a tile (fits_tile).
template <DType kType>
void launch_tiles(const Matrix& in, const Operand& column, const Operand* row, Stream stream);

// Whether the blocks and transforms of a row operand lie within a tile.
bool fits_tile(DType dtype, const Operand& row);

// Sets one float in device memory to 1.
void launch_set_one(float* to, Stream stream);

// Writes value * scale of packed codes.
void launch_dequantize(const ConstQuantized& in, const float (&values)[16], void* out, DType out_dtype, Stream stream);

// The error of loading a kernel on the current device: whether its architecture was built in.
int probe_kernel();

// Throws RunError for the error of a launch, naming the kernel and its shapes.
void check_launch(const char* kernel, std::int64_t rows, std::int64_t columns);

// Blocks that fill the current device, `resident` on each multiprocessor.
std::int64_t resident_blocks(int resident);

}  // namespace ufp4::cuda
