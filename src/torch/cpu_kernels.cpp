#include <ATen/Parallel.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "numerics/packed_scales.h"
#include "numerics/scale_rules.h"
#include "numerics/window.h"
#include "torch/device_kernels.h"
#include "ufp4/backend.h"
#include "ufp4/error.h"

namespace ufp4::cpu_kernels {
namespace {

// Below this, waking the other threads costs more than it saves.
constexpr std::int64_t kSerialElements = std::int64_t{16} * 1024;
// Rows are handed out in multiples of this where there are many: 128 codes of a column fill a cache line.
constexpr std::int64_t kRowGroup = 128;

std::byte* advance(void* pointer, std::int64_t bytes) { return static_cast<std::byte*>(pointer) + bytes; }

// The least number of rows that no column task has to cut a block or a transform for.
std::int64_t whole_rows(std::span<const QuantizeTask> tasks) {
  std::int64_t rows = 1;
  for (const QuantizeTask& task : tasks) {
    if (task.place.axis == Axis::kRow) continue;
    rows = std::max<std::int64_t>({rows, task.spec.block_size(), task.spec.hadamard.size});
  }
  return rows;
}

// Calls `work(index, rows)` on torch's threads, each with a share of the stored rows.
template <typename Work>
void share_rows(const ConstMatrix& in, std::span<const QuantizeTask> tasks, const Work& work) {
  const std::int64_t threads = at::get_num_threads();
  const std::int64_t least = whole_rows(tasks);
  const std::int64_t group = in.rows >= 4 * kRowGroup * threads ? std::max(least, kRowGroup) : least;
  const std::int64_t groups = (in.rows + group - 1) / group;
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = std::min(groups * begin / threads * group, in.rows);
    const std::int64_t last = std::min(groups * end / threads * group, in.rows);
    if (first < last) work(static_cast<std::size_t>(begin), RowRange{first, last});
  });
}

// The magnitudes that the second-level scales of a task follow from, as they are in the whole matrix.
std::vector<float> find_outer_amax(const Backend& backend, const ConstMatrix& in, const QuantizeTask& task) {
  const OuterShape shape =
      outer_shape(quantized_shape(in.rows, in.columns, task.spec, task.place.axis), task.spec.outer_each());
  const auto size = static_cast<std::size_t>(shape.rows * shape.columns);
  std::vector<std::vector<float>> parts(static_cast<std::size_t>(at::get_num_threads()));
  share_rows(in, {&task, 1}, [&](std::size_t index, RowRange rows) {
    parts[index].assign(size, 0.0F);
    backend.raise_outer_amax(in, task.spec, task.place, rows, parts[index].data());
  });
  std::vector<float> whole(size, 0.0F);
  for (const std::vector<float>& part : parts) {
    for (std::size_t i = 0; i < part.size(); ++i) whole[i] = reference::raised(whole[i], part[i]);
  }
  return whole;
}

// What an operand is quantized for whose window is placed.
float settle(const Window& window, float found, float least) {
  const Settled settled = settle_window(*window.expected, found, least);
  if (window.seen != nullptr) *window.seen = std::max(*window.seen, found);
  if (window.left != nullptr && settled.left) ++*window.left;
  return settled.amax;
}

// The task with the numbers that wait in memory.
QuantizeTask settled_place(const DeviceTask& from) {
  QuantizeTask task = from.task;
  Place& place = task.place;
  if (from.place.step != nullptr) place.step = *from.place.step;
  if (from.place.layer != nullptr) place.stream += kStreamsPerLayer * *from.place.layer;
  if (from.place.first_row != nullptr) {
    (place.axis == Axis::kRow ? place.row_offset : place.column_offset) += *from.place.first_row;
  }
  return task;
}

void quantize(const ConstMatrix& in, std::span<const DeviceTask> tasks, std::span<const Window> windows) {
  const Backend& backend = default_backend();
  std::vector<QuantizeTask> known;
  std::vector<std::vector<float>> amax;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    QuantizeTask& task = known.emplace_back(settled_place(tasks[i]));
    if (!task.outer_amax_unknown()) continue;
    std::vector<float>& found = amax.emplace_back(find_outer_amax(backend, in, task));
    if (!windows.empty() && windows[i].expected != nullptr) {
      found[0] = settle(windows[i], found[0], task.spec.format->outer_least);
    }
    task.outer_amax = found.data();
  }
  const std::int64_t threads = at::get_num_threads();
  if (threads == 1 || at::in_parallel_region() || in.rows * in.columns < kSerialElements) {
    return backend.quantize(in, known);
  }
  // Every thread takes its rows for all tasks, and so reads them once.
  share_rows(in, known, [&](std::size_t, RowRange rows) { backend.quantize_rows(in, known, rows); });
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  const Backend& backend = default_backend();
  const std::int64_t block = in.block == 0 ? in.format->block : in.block;
  const QuantizedShape shape{in.rows, in.columns, in.columns, in.columns / block};
  const OuterShape outer = outer_shape(shape, in.outer);
  // Rows that share a second-level scale stay together.
  const std::int64_t group = in.outer == OuterScale::k128x128 ? outer.rows_each : 1;
  const std::int64_t grain = std::max<std::int64_t>(1, kSerialElements / std::max<std::int64_t>(1, in.columns * group));
  at::parallel_for(0, (in.rows + group - 1) / group, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * group;
    ConstQuantized part = in;
    part.rows = std::min(end * group, in.rows) - first;
    part.codes += first * shape.codes_per_row();
    if (part.scales != nullptr) part.scales += first * shape.scales_per_row;
    if (part.packed_scales != nullptr) {
      part.packed_scales += first * shape.scales_per_row * in.format->packed_scale_bytes();
    }
    if (part.selectors != nullptr) part.selectors += first * (in.columns / in.format->selector_block);
    if (in.outer != OuterScale::kTensor) part.outer_scales += outer.index(first, 0);
    backend.dequantize(part, advance(out, first * in.columns * static_cast<std::int64_t>(size_of(out_dtype))),
                       out_dtype);
  });
}

void dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out) {
  if (in.format->exact != ExactValue::kE4m3) {
    throw InputError("dequantize: the values of '" + std::string(in.format->name) + "' are no E4M3 numbers");
  }
  ConstQuantized first_level = in;
  first_level.outer = OuterScale::kTensor;
  first_level.outer_scales = nullptr;
  std::vector<float> values(static_cast<std::size_t>(in.rows * in.columns));
  dequantize(first_level, values.data(), DType::kF32);
  std::transform(values.begin(), values.end(), out, float_to_e4m3);
}

void dequantize_int8(const ConstQuantized& in, std::int8_t* out) {
  if (in.format->exact != ExactValue::kInt8) {
    throw InputError("dequantize: the values of '" + std::string(in.format->name) + "' are no INT8 numbers");
  }
  const std::int64_t block = in.block == 0 ? in.format->block : in.block;
  const std::int64_t grain = std::max<std::int64_t>(1, kSerialElements / std::max<std::int64_t>(1, in.columns));
  at::parallel_for(0, in.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * in.columns;
    std::vector<float> scales(static_cast<std::size_t>((end - begin) * in.columns / block));
    unpack_scales(*in.format, in.packed_scales + first / block, scales.size(), scales.data(), nullptr);
    integers_of(in.codes + first / 2, scales.data(), static_cast<std::int64_t>(scales.size()), static_cast<int>(block),
                out + first);
  });
}

}  // namespace

const DeviceKernels kKernels{.take = [](const OperandSpec&) { return true; },
                             .quantize = quantize,
                             .dequantize = dequantize,
                             .dequantize_e4m3 = dequantize_e4m3,
                             .dequantize_int8 = dequantize_int8,
                             .layers = &kLayers};

}  // namespace ufp4::cpu_kernels
