#include "cuda/quantize.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
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
  if constexpr (kType != DType::kF32) {
    for (const auto& [column, row] : operands.segments) {
      launch_segments<kType>(in, column ? &*column : nullptr, row ? &*row : nullptr, stream);
    }
  }
}

// Whether there is anything to do.
bool check(const ConstQuantized& in, const void* out, DType out_dtype) {
  check_dequantize(in, out, out_dtype);
  if (!has_kernels(*in.format)) {
    throw InputError("dequantize: the GPU kernels do not know the elements and scales of format '" +
                     std::string(in.format->name) + "'; a CPU backend does");
  }
  if (in.rows == 0 || in.columns == 0) return false;
  if (!aligned(in.codes, 8) || !aligned(out, 16)) {
    throw InputError("dequantize: on a GPU codes must be aligned to 8 bytes and values to 16");
  }
  if (in.format->scale == ScaleEncoding::kE6m2 && !(aligned(in.packed_scales, 4) && aligned(in.selectors, 4))) {
    throw InputError("dequantize: on a GPU the scales and selectors of '" + std::string(in.format->name) +
                     "' must be aligned to 4 bytes");
  }
  return true;
}

void check_alignment(const QuantizeTask& task) {
  const Quantized& out = task.out;
  if (!aligned(out.codes, 8)) throw InputError("quantize: codes on a GPU must be aligned to 8 bytes");
  if (!aligned(out.dequantized, 16) || !aligned(out.e4m3, 16) || !aligned(out.int8, 16)) {
    throw InputError("quantize: dequantized values on a GPU must be aligned to 16 bytes");
  }
  const bool words = task.spec.format->scale == ScaleEncoding::kE6m2 || task.spec.format->scale == ScaleEncoding::kFp32;
  if (words && (!aligned(out.packed_scales, 4) || !aligned(out.selectors, 4))) {
    throw InputError("quantize: scales and selectors of '" + std::string(task.spec.format->name) +
                     "' on a GPU must be aligned to 4 bytes");
  }
}

void check_outer_amax(DType dtype, std::int64_t rows, std::int64_t columns, const DeviceTask& task) {
  if (!task.task.outer_amax_unknown() || !has_kernels(*task.task.spec.format) || finds_outer(dtype, task)) return;
  throw InputError("quantize: the GPU kernels of '" + std::string(task.task.spec.format->name) +
                   "' need the largest magnitudes that its second-level scales follow from before they read the " +
                   "matrix [" + std::to_string(rows) + ", " + std::to_string(columns) +
                   "]; raise_outer_amax finds them");
}

// Takes those that find their second-level scales out of `rows` and `columns`: each of the latter with one of the
// former.
std::vector<OperandPairs::Segments> take_segments(std::vector<Operand>& columns, std::vector<Operand>& rows) {
  const auto take = [](std::vector<Operand>& from, const auto& is) -> std::optional<Operand> {
    const auto found = std::find_if(from.begin(), from.end(), is);
    if (found == from.end()) return std::nullopt;
    const Operand operand = *found;
    from.erase(found);
    return operand;
  };
  const auto any = [](const Operand& p) { return p.finds_outer; };
  std::vector<OperandPairs::Segments> result;
  while (const std::optional<Operand> column = take(columns, any)) {
    const bool stochastic = column->stochastic;
    const auto alike = [&](const Operand& p) { return p.finds_outer && p.stochastic == stochastic; };
    result.push_back({column, take(rows, alike)});
  }
  while (const std::optional<Operand> row = take(rows, any)) result.push_back({std::nullopt, row});
  return result;
}

// Each column operand takes along a row operand that a tile can serve too.
OperandPairs pair_up(DType dtype, const std::vector<Operand>& columns, std::vector<Operand> rows) {
  OperandPairs result;
  for (const Operand& column : columns) {
    OperandPairs::Tile& tile = result.tiles.emplace_back(OperandPairs::Tile{column, std::nullopt});
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Operand& r) {
      return r.policy == column.policy && r.stochastic == column.stochastic && fits_tile(dtype, r);
    });
    if (row == rows.end()) continue;
    tile.row = *row;
    rows.erase(row);
  }
  result.rows = std::move(rows);
  return result;
}

template <typename Task>
OperandPairs operands_of(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const Task> tasks) {
  std::vector<Operand> of_columns;
  std::vector<Operand> of_rows;
  for (const Task& task : tasks) {
    const Operand operand = make_operand(rows, columns, task);
    (operand.of_columns ? of_columns : of_rows).push_back(operand);
  }
  std::vector<OperandPairs::Segments> segments = take_segments(of_columns, of_rows);
  OperandPairs result = pair_up(dtype, of_columns, std::move(of_rows));
  result.segments = std::move(segments);
  return result;
}

void launch(const ConstMatrix& in, const OperandPairs& operands, Stream stream) {
  check(in);
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

}  // namespace

bool fits_tile(DType dtype, const Operand& row) {
  const int tile_columns = 2 * kTileRowReach / static_cast<int>(size_of(dtype));
  return row.policy != Policy::kTable && std::max(row.lanes * kRun, row.hadamard) <= tile_columns;
}

OperandPairs make_operands(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const DeviceTask> tasks) {
  for (const DeviceTask& task : tasks) {
    quantized_shape(rows, columns, task.task.spec, task.task.place.axis);  // checks the spec
    check_outer_amax(dtype, rows, columns, task);
    check_output(task.task);
    check_alignment(task.task);
  }
  return operands_of(dtype, rows, columns, tasks);
}

OperandPairs make_operands(DType dtype, std::int64_t rows, std::int64_t columns, std::span<const AmaxTask> tasks) {
  return operands_of(dtype, rows, columns, tasks);
}

void write_outer_scales(std::int64_t rows, std::int64_t columns, std::span<const DeviceTask> tasks, Stream stream) {
  for (const DeviceTask& device_task : tasks) {
    const QuantizeTask& task = device_task.task;
    const bool own = task.spec.format->outer_of_extremes() && task.outer_amax == nullptr;  // the kernel writes them
    if (task.out.outer_scales == nullptr || own) continue;
    const QuantizedShape shape = quantized_shape(rows, columns, task.spec, task.place.axis);
    const OuterShape outer = outer_shape(shape, task.spec.outer_each());
    launch_outer_scales(*task.spec.format, task.outer_amax, outer.rows * outer.columns, task.out.outer_scales, stream);
  }
}

void quantize(const ConstMatrix& in, std::span<const DeviceTask> tasks, Stream stream) {
  const OperandPairs operands = make_operands(in.dtype, in.rows, in.columns, tasks);
  const bool any = in.rows != 0 && in.columns != 0 && !tasks.empty();
  if (any) check(in);
  write_outer_scales(in.rows, in.columns, tasks, stream);
  if (any) launch(in, operands, stream);
}

void raise_outer_amax(const ConstMatrix& in, std::span<const AmaxTask> tasks, Stream stream) {
  const OperandPairs operands = make_operands(in.dtype, in.rows, in.columns, tasks);
  if (in.rows != 0 && in.columns != 0 && !tasks.empty()) launch(in, operands, stream);
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream) {
  if (check(in, out, out_dtype)) launch_dequantize(in, out, out_dtype, stream);
}

void dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream) {
  const bool any = check(in, out, DType::kBF16);
  if (in.format->exact != ExactValue::kE4m3) {
    throw InputError("dequantize: the values of '" + std::string(in.format->name) + "' are no E4M3 numbers");
  }
  if (any) launch_dequantize_e4m3(in, out, stream);
}

void dequantize_int8(const ConstQuantized& in, std::int8_t* out, Stream stream) {
  const bool any = check(in, out, DType::kBF16);
  if (in.format->exact != ExactValue::kInt8) {
    throw InputError("dequantize: the values of '" + std::string(in.format->name) + "' are no INT8 numbers");
  }
  if (any) launch_dequantize_int8(in, out, stream);
}

}  // namespace ufp4::cuda
