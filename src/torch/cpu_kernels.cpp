#include <ATen/Parallel.h>

#include <algorithm>
#include <cstddef>

#include "torch/kernels.h"
#include "ufp4/backend.h"

namespace ufp4::cpu_kernels {
namespace {

constexpr std::int64_t kSerialElements = 16 * 1024;  // below, waking the other threads costs more than it saves
// Rows are handed out in multiples of this where there are many: 128 codes of a column fill a cache line.
constexpr std::int64_t kRowGroup = 128;

std::byte* advance(void* pointer, std::int64_t bytes) { return static_cast<std::byte*>(pointer) + bytes; }

// The least number of rows that no column task has to cut a block or a transform for.
std::int64_t whole_rows(std::span<const QuantizeTask> tasks) {
  std::int64_t rows = 1;
  for (const QuantizeTask& task : tasks) {
    if (task.spec.axis == Axis::kRow) continue;
    rows = std::max<std::int64_t>({rows, task.spec.block_size(), task.spec.hadamard.size});
  }
  return rows;
}

}  // namespace

void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) {
  const Backend& backend = default_backend();
  const std::int64_t threads = at::get_num_threads();
  if (threads == 1 || at::in_parallel_region() || in.rows * in.columns < kSerialElements) {
    backend.quantize(in, tasks);
    return;
  }
  // Every thread takes a share of the stored rows for all tasks, and so reads it once.
  const std::int64_t least = whole_rows(tasks);
  const std::int64_t group = in.rows >= 4 * kRowGroup * threads ? std::max(least, kRowGroup) : least;
  const std::int64_t groups = (in.rows + group - 1) / group;
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = std::min(groups * begin / threads * group, in.rows);
    const std::int64_t last = std::min(groups * end / threads * group, in.rows);
    if (first < last) backend.quantize_rows(in, tasks, {first, last});
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
