#include "cuda/quantize.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/kernels.h"
#include "numerics/arguments.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

bool aligned(const void* pointer, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0; }

void check(const ConstMatrix& in, std::span<const QuantizeTask> tasks) {
  check_matrix(in);
  if (!aligned(in.data, size_of(in.dtype))) throw InputError("quantize: the matrix is not aligned to its elements");
  for (const QuantizeTask& task : tasks) {
    if (!aligned(task.out.codes, 8)) throw InputError("quantize: codes on a GPU must be aligned to 8 bytes");
    if (!aligned(task.out.dequantized, 16)) {
      throw InputError("quantize: dequantized values on a GPU must be aligned to 16 bytes");
    }
  }
}

// Every column operand takes a compatible row operand along; the other row operands go alone.
template <DType kType>
void quantize_typed(const Matrix& in, std::vector<Operand> rows, const std::vector<Operand>& columns, Stream stream) {
  for (const Operand& column : columns) {
    const auto partner = std::find_if(rows.begin(), rows.end(), [&](const Operand& row) {
      return row.grid == column.grid && row.stochastic == column.stochastic && fits_tile(kType, row);
    });
    launch_tiles<kType>(in, column, partner == rows.end() ? nullptr : &*partner, stream);
    if (partner != rows.end()) rows.erase(partner);
  }
  for (const Operand& row : rows) launch_rows<kType>(in, row, stream);
}

}  // namespace

bool fits_tile(DType dtype, const Operand& row) {
  const int tile_columns = 128 / static_cast<int>(size_of(dtype));
  return row.grid != Grid::kTable && std::max(row.lanes * kRun, row.hadamard) <= tile_columns;
}

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, Stream stream) {
  const bool empty = in.rows == 0 || in.columns == 0;
  std::vector<Operand> rows;
  std::vector<Operand> columns;
  for (const QuantizeTask& task : tasks) {
    (task.spec.axis == Axis::kRow ? rows : columns).push_back(make_operand(in.rows, in.columns, task));
    check_output(task.out);
  }
  if (!empty && !tasks.empty()) check(in, tasks);
  for (const QuantizeTask& task : tasks) {
    if (task.out.global_scale != nullptr) launch_set_one(task.out.global_scale, stream);
  }
  if (empty || tasks.empty()) return;
  const bool vector_rows =
      aligned(in.data, 16) && in.row_stride * static_cast<std::int64_t>(size_of(in.dtype)) % 16 == 0;
  const Matrix matrix{in.data, static_cast<std::uint32_t>(in.rows), static_cast<std::uint32_t>(in.columns),
                      in.row_stride, vector_rows};
  switch (in.dtype) {
    case DType::kF32: return quantize_typed<DType::kF32>(matrix, rows, columns, stream);
    case DType::kBF16: return quantize_typed<DType::kBF16>(matrix, rows, columns, stream);
    case DType::kF16: return quantize_typed<DType::kF16>(matrix, rows, columns, stream);
  }
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream) {
  check_dequantize(in, out, out_dtype);
  if (in.format->rule != ScaleRule::kAmax) {
    throw InputError("dequantize: format '" + std::string(in.format->name) +
                     "' has a scale rule that the GPU kernels do not have; a CPU backend has it");
  }
  if (in.rows == 0 || in.columns == 0) return;
  if (!aligned(in.codes, 8) || !aligned(out, 16)) {
    throw InputError("dequantize: on a GPU codes must be aligned to 8 bytes and values to 16");
  }
  float values[16];
  for (unsigned code = 0; code < 16; ++code) values[code] = code_value(in.format->element, code);
  launch_dequantize(in, values, out, out_dtype, stream);
}

}  // namespace ufp4::cuda
