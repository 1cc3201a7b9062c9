#include "cuda/quantize.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/kernels.h"
#include "numerics/arguments.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

bool aligned(const void* pointer, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0; }

void check(const ConstMatrix& in) {
  check_matrix(in);
  if (!aligned(in.data, size_of(in.dtype))) throw InputError("quantize: the matrix is not aligned to its elements");
}

template <DType kType>
void quantize_typed(const Matrix& in, const OperandPairs& operands, Stream stream) {
  for (const auto& [column, row] : operands.tiles) {
    launch_tiles<kType>(in, &column, row ? &*row : nullptr, stream);
  }
  for (const Operand& row : operands.rows) launch_rows<kType>(in, row, stream);
}

// Whether there is anything to do.
bool check(const ConstQuantized& in, const void* out, DType out_dtype) {
  check_dequantize(in, out, out_dtype);
  if (in.format->rule != ScaleRule::kAmax && in.format->rule != ScaleRule::kPow2Window) {
    throw InputError("dequantize: format '" + std::string(in.format->name) +
                     "' has a scale rule that the GPU kernels do not have; a CPU backend has it");
  }
  if (in.packed_scales != nullptr && in.outer != OuterScale::kTensor) {
    throw InputError("dequantize: the GPU kernels have one second-level scale a tensor; a CPU backend has others");
  }
  if (in.rows == 0 || in.columns == 0) return false;
  if (!aligned(in.codes, 8) || !aligned(out, 16)) {
    throw InputError("dequantize: on a GPU codes must be aligned to 8 bytes and values to 16");
  }
  return true;
}

}  // namespace

bool fits_tile(DType dtype, const Operand& row) {
  const int tile_columns = 2 * kTileRowReach / static_cast<int>(size_of(dtype));
  return row.grid != Grid::kTable && std::max(row.lanes * kRun, row.hadamard) <= tile_columns;
}

OperandPairs make_operands(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const QuantizeTask> tasks) {
  OperandPairs result;
  for (const QuantizeTask& task : tasks) {
    const Operand operand = make_operand(rows, columns, task);
    check_output(task);
    if (!aligned(task.out.codes, 8)) throw InputError("quantize: codes on a GPU must be aligned to 8 bytes");
    if (!aligned(task.out.dequantized, 16) || !aligned(task.out.e4m3, 16)) {
      throw InputError("quantize: dequantized values on a GPU must be aligned to 16 bytes");
    }
    if (task.spec.axis == Axis::kRow) {
      result.rows.push_back(operand);
    } else {
      result.tiles.push_back({operand, std::nullopt});
    }
  }
  for (OperandPairs::Tile& tile : result.tiles) {
    const auto row = std::find_if(result.rows.begin(), result.rows.end(), [&](const Operand& r) {
      return r.grid == tile.column.grid && r.stochastic == tile.column.stochastic && fits_tile(dtype, r);
    });
    if (row == result.rows.end()) continue;
    tile.row = *row;
    result.rows.erase(row);
  }
  return result;
}

void set_global_scales(std::span<const QuantizeTask> tasks, Stream stream) {
  for (const QuantizeTask& task : tasks) {
    if (task.out.global_scale != nullptr) launch_global_scale(task.spec, task.out.global_scale, stream);
    if (task.out.outer_scales != nullptr) launch_global_scale(task.spec, task.out.outer_scales, stream);
  }
}

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, Stream stream) {
  const bool empty = in.rows == 0 || in.columns == 0;
  const OperandPairs operands = make_operands(in.dtype, in.rows, in.columns, tasks);
  if (!empty && !tasks.empty()) check(in);
  set_global_scales(tasks, stream);
  if (empty || tasks.empty()) return;
  const bool vector_rows =
      aligned(in.data, 16) && in.row_stride * static_cast<std::int64_t>(size_of(in.dtype)) % 16 == 0;
  const Matrix matrix{in.data, static_cast<std::uint32_t>(in.rows), static_cast<std::uint32_t>(in.columns),
                      in.row_stride, vector_rows};
  switch (in.dtype) {
    case DType::kF32: return quantize_typed<DType::kF32>(matrix, operands, stream);
    case DType::kBF16: return quantize_typed<DType::kBF16>(matrix, operands, stream);
    case DType::kF16: return quantize_typed<DType::kF16>(matrix, operands, stream);
  }
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream) {
  if (check(in, out, out_dtype)) launch_dequantize(in, out, out_dtype, stream);
}

void dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream) {
  const bool any = check(in, out, DType::kBF16);
  if (in.format->rule != ScaleRule::kPow2Window) {
    throw InputError("dequantize: the values of '" + std::string(in.format->name) + "' are no E4M3 numbers");
  }
  if (any) launch_dequantize_e4m3(in, out, stream);
}

}  // namespace ufp4::cuda
