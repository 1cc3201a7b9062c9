#include "cuda/layers.h"

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/kernels.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

struct Pointer {
  const char* name;
  const void* data;
};

// Whether the layer has any element; throws InputError for a shape that there is no kernel for.
bool check_shape(const char* layer, std::int64_t rows, std::int64_t columns) {
  if (rows >= 0 && columns >= 0 && columns % kLayerWidthMultiple == 0 && rows <= kLargestDimension / 2 &&
      columns <= kLargestDimension / 2) {
    return rows != 0 && columns != 0;
  }
  throw InputError(std::string(layer) + ": [" + std::to_string(rows) + ", " + std::to_string(columns) +
                   "] is no shape that the GPU kernels take: the number of columns must be a multiple of " +
                   std::to_string(kLayerWidthMultiple) + ", and neither may be above " +
                   std::to_string(kLargestDimension / 2));
}

bool aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

void check_pointers(const char* layer, std::initializer_list<Pointer> pointers) {
  for (const Pointer& p : pointers) {
    if (p.data == nullptr) throw InputError(std::string(layer) + ": no " + p.name + " given");
    if (!aligned(p.data)) {
      throw InputError(std::string(layer) + ": " + p.name + " is not aligned to 16 bytes");
    }
  }
}

// Throws InputError for a layer with something missing; whether there is anything to do.
bool check(const RmsNorm& p) {
  if (!check_shape("RMS norm", p.rows, p.columns)) return false;
  check_pointers("RMS norm", {{"x", p.x}, {"weight", p.weight}, {"rstd", p.rstd}});
  return true;
}

bool check(const Swiglu& p) {
  if (!check_shape("SwiGLU", p.rows, p.columns)) return false;
  check_pointers("SwiGLU", {{"h", p.h}});
  return true;
}

bool check(const SwigluBackward& p) {
  if (!check_shape("SwiGLU backward", p.rows, p.columns)) return false;
  check_pointers("SwiGLU backward", {{"h", p.h}, {"dy", p.dy}});
  return true;
}

bool check(const Rounded& p) {
  if (!check_shape("rounding", p.rows, p.columns)) return false;
  check_pointers("rounding", {{"x", p.x}});
  return true;
}

bool check(const RotaryBackward& p) {
  if (!check_shape("rotary backward", p.rows, p.columns)) return false;
  for (const RotaryPart& part : p.parts) {
    if (part.heads != 0) check_pointers("rotary backward", {{"heads", part.from}});
  }
  check_pointers("rotary backward", {{"table", p.table}});
  if (layers_take(p)) return true;
  throw InputError("rotary backward: heads of " + std::to_string(p.size) + " in " + std::to_string(p.columns) +
                   " columns, " + std::to_string(p.rows) + " tokens in sequences of " + std::to_string(p.tokens) +
                   ": no shape or strides that the GPU kernels take");
}

template <typename Layer>
void compute_layer(const Layer& layer, Bf16* out, Stream stream) {
  if (!check(layer)) return;
  check_pointers("layer", {{"result", out}});
  launch_compute(layer, out, stream);
}

template <typename Layer>
std::int64_t result_columns(const Layer& layer) {
  return std::is_same_v<Layer, SwigluBackward> ? 2 * layer.columns : layer.columns;
}

void check_operands(const OperandPairs& operands) {
  for (const auto& tile : operands.tiles) {
    if (tile.column.policy == Policy::kTable) throw InputError("quantize: a layer has no kernels for these levels");
  }
  for (const Operand& row : operands.rows) {
    if (!fits_tile(DType::kBF16, row)) {
      throw InputError("quantize: a layer has no kernels for these levels, or for rows with blocks or transforms of " +
                       std::to_string(std::max(row.lanes * kRun, row.hadamard)) + " values");
    }
  }
}

template <typename Layer>
void launch_layer(const Layer& layer, const OperandPairs& operands, Stream stream) {
  for (const auto& [column, row] : operands.tiles) launch_layer_tiles(layer, &column, row ? &*row : nullptr, stream);
  for (const Operand& row : operands.rows) launch_layer_tiles(layer, nullptr, &row, stream);
  for (const auto& [column, row] : operands.segments) {
    launch_layer_segments(layer, column ? &*column : nullptr, row ? &*row : nullptr, stream);
  }
}

template <typename Layer>
void quantize_layer(const Layer& layer, std::span<const DeviceTask> tasks, Stream stream) {
  const OperandPairs operands = make_operands(DType::kBF16, layer.rows, result_columns(layer), tasks);
  const bool any = check(layer);
  check_operands(operands);
  write_outer_scales(layer.rows, result_columns(layer), tasks, stream);
  if (any) launch_layer(layer, operands, stream);
}

template <typename Layer>
void measure_layer(const Layer& layer, std::span<const AmaxTask> tasks, Stream stream) {
  const OperandPairs operands = make_operands(DType::kBF16, layer.rows, result_columns(layer), tasks);
  const bool any = check(layer);
  check_operands(operands);
  if (any) launch_layer(layer, operands, stream);
}

}  // namespace

bool layers_take(const OperandSpec& spec, Axis axis) {
  if (!takes(spec)) return false;
  return axis == Axis::kColumn || std::max(spec.block_size(), spec.hadamard.size) <= kTileRowReach;
}

bool layers_take(const Rounded& layer) { return layer.columns % kLayerWidthMultiple == 0 && aligned(layer.x); }

bool layers_take(const RotaryBackward& layer) {
  std::int64_t heads = 0;
  for (const RotaryPart& part : layer.parts) {
    if (part.heads == 0) continue;
    heads += part.heads;
    const bool dense = layer.rows == layer.tokens || part.batch_stride == layer.tokens * part.token_stride;
    if (!dense || !readable(part)) return false;
  }
  return layer.size > 0 && layer.size % kHeadMultiple == 0 && heads * layer.size == layer.columns && layer.tokens > 0 &&
         layer.rows % layer.tokens == 0 && layer.rows * layer.tokens < std::int64_t{1} << 32 && aligned(layer.table);
}

void compute(const RmsNorm& layer, Bf16* out, Stream stream) { compute_layer(layer, out, stream); }
void compute(const Swiglu& layer, Bf16* out, Stream stream) { compute_layer(layer, out, stream); }
void compute(const SwigluBackward& layer, Bf16* out, Stream stream) { compute_layer(layer, out, stream); }
void compute(const Rounded& layer, Bf16* out, Stream stream) { compute_layer(layer, out, stream); }
void compute(const RotaryBackward& layer, Bf16* out, Stream stream) { compute_layer(layer, out, stream); }

void quantize(const RmsNorm& layer, std::span<const DeviceTask> tasks, Stream stream) {
  quantize_layer(layer, tasks, stream);
}
void quantize(const Swiglu& layer, std::span<const DeviceTask> tasks, Stream stream) {
  quantize_layer(layer, tasks, stream);
}
void quantize(const SwigluBackward& layer, std::span<const DeviceTask> tasks, Stream stream) {
  quantize_layer(layer, tasks, stream);
}
void quantize(const Rounded& layer, std::span<const DeviceTask> tasks, Stream stream) {
  quantize_layer(layer, tasks, stream);
}
void quantize(const RotaryBackward& layer, std::span<const DeviceTask> tasks, Stream stream) {
  quantize_layer(layer, tasks, stream);
}

void raise_outer_amax(const RmsNorm& layer, std::span<const AmaxTask> tasks, Stream stream) {
  measure_layer(layer, tasks, stream);
}
void raise_outer_amax(const Swiglu& layer, std::span<const AmaxTask> tasks, Stream stream) {
  measure_layer(layer, tasks, stream);
}
void raise_outer_amax(const SwigluBackward& layer, std::span<const AmaxTask> tasks, Stream stream) {
  measure_layer(layer, tasks, stream);
}
void raise_outer_amax(const Rounded& layer, std::span<const AmaxTask> tasks, Stream stream) {
  measure_layer(layer, tasks, stream);
}
void raise_outer_amax(const RotaryBackward& layer, std::span<const AmaxTask> tasks, Stream stream) {
  measure_layer(layer, tasks, stream);
}

void rms_statistics(const RmsStatistics& p, Stream stream) {
  if (!check_shape("RMS statistics", p.rows, p.columns)) return;
  check_pointers("RMS statistics", {{"x", p.x}, {"rstd", p.rstd}});
  if (p.branch != nullptr) check_pointers("RMS statistics", {{"branch", p.branch}, {"sum", p.sum}});
  launch_rms_statistics(p, stream);
}

void rms_norm_backward(const RmsNormBackward& p, Stream stream) {
  const bool any = check_shape("RMS norm backward", p.rows, p.columns);
  if (p.columns > kLargestNorm) {
    throw InputError("RMS norm backward: " + std::to_string(p.columns) + " columns, expected at most " +
                     std::to_string(kLargestNorm));
  }
  if (!any) return;
  check_pointers("RMS norm backward", {{"x", p.x},
                                       {"weight", p.weight},
                                       {"rstd", p.rstd},
                                       {"dy", p.dy},
                                       {"dx", p.dx},
                                       {"dweight", p.dweight},
                                       {"workspace", p.workspace}});
  if (p.residual != nullptr) check_pointers("RMS norm backward", {{"residual", p.residual}});
  launch_rms_norm_backward(p, stream);
}

}  // namespace ufp4::cuda
