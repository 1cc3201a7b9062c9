#include <ATen/Parallel.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "torch/kernels.h"
#include "ufp4/backend.h"

namespace ufp4::cpu_kernels {
namespace {

constexpr std::int64_t kSerialElements = 16 * 1024;  // below, waking the other threads costs more than it saves
// Rows of an operand are handed out in whole groups: 64 columns of a stored matrix fill its cache lines.
constexpr std::int64_t kRowGroup = 64;

std::byte* advance(void* pointer, std::int64_t bytes) {
  return pointer == nullptr ? nullptr : static_cast<std::byte*>(pointer) + bytes;
}

// Rows [first, last) of an operand: the part of the stored matrix, and the task whose destinations begin there.
struct Part {
  ConstMatrix in;
  QuantizeTask task;
};

Part part_of(const ConstMatrix& in, const QuantizeTask& task, std::int64_t first, std::int64_t last) {
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, task.spec);
  const auto element = static_cast<std::int64_t>(size_of(in.dtype));
  Part part{in, task};
  if (task.spec.axis == Axis::kRow) {
    part.in.data = static_cast<const std::byte*>(in.data) + first * in.row_stride * element;
    part.in.rows = last - first;
  } else {
    part.in.data = static_cast<const std::byte*>(in.data) + first * element;
    part.in.columns = last - first;
  }
  part.task.spec.random.row_offset += static_cast<std::uint32_t>(first);
  Quantized& out = part.task.out;
  if (out.codes != nullptr) out.codes += first * shape.codes_per_row();
  if (out.scales != nullptr) out.scales += first * shape.scales_per_row;
  const auto out_element = static_cast<std::int64_t>(size_of(out.dequantized_dtype));
  out.dequantized = advance(out.dequantized, first * shape.columns * out_element);
  return part;
}

}  // namespace

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) {
  const Backend& backend = default_backend();
  const std::int64_t threads = at::get_num_threads();
  if (threads == 1 || at::in_parallel_region() || in.rows * in.columns < kSerialElements) {
    backend.quantize(in, tasks);
    return;
  }
  // Every thread takes its share of each operand's rows. For a row task and a column task these are different parts of
  // the stored matrix, for their results are dense along different axes.
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (const QuantizeTask& task : tasks) {
      const std::int64_t rows = task.spec.axis == Axis::kRow ? in.rows : in.columns;
      const std::int64_t groups = (rows + kRowGroup - 1) / kRowGroup;
      const std::int64_t first = std::min(groups * begin / threads * kRowGroup, rows);
      const std::int64_t last = std::min(groups * end / threads * kRowGroup, rows);
      if (first == last) continue;
      const Part part = part_of(in, task, first, last);
      backend.quantize(part.in, {&part.task, 1});
    }
  });
}

void dequantize(const ConstQuantized& in, void* out, DType out_dtype) {
  const Backend& backend = default_backend();
  const std::int64_t block = in.block == 0 ? in.format->block : in.block;
  const std::int64_t grain = std::max<std::int64_t>(1, kSerialElements / std::max<std::int64_t>(1, in.columns));
  at::parallel_for(0, in.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    ConstQuantized part = in;
    part.rows = end - begin;
    part.codes += begin * in.columns / 2;
    part.scales += begin * (in.columns / block);
    backend.dequantize(part, advance(out, begin * in.columns * static_cast<std::int64_t>(size_of(out_dtype))),
                       out_dtype);
  });
}

}  // namespace ufp4::cpu_kernels
