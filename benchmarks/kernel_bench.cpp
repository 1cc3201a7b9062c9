#include "kernel_bench.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <memory>
#include <random>

#include "ufp4/error.h"

namespace ufp4::bench {
namespace {

// Memory whose pages exist before the clock runs, aligned as large allocations are.
class Buffer {
 public:
  explicit Buffer(std::int64_t bytes)
      : data_(static_cast<std::uint8_t*>(::operator new(static_cast<std::size_t>(bytes), kAlignment))) {
    std::memset(data_.get(), 1, static_cast<std::size_t>(bytes));
  }
  std::uint8_t* data() const { return data_.get(); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  static constexpr std::align_val_t kAlignment{4096};
  struct Free {
    void operator()(std::uint8_t* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<std::uint8_t, Free> data_;
};

// Of this thread: what others do on the same core in between does not count.
double now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

double microseconds(const std::function<void()>& work) {
  const double begin = now();
  work();
  return now() - begin;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void fill_normal(void* data, DType dtype, std::int64_t count) {
  // A few thousand distinct values suffice: the kernels do not branch on them.
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(4093);
  for (float& value : values) value = normal(random);
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = values[static_cast<std::size_t>(i) % values.size()];
    if (dtype == DType::kF32) {
      static_cast<float*>(data)[i] = value;
    } else {
      static_cast<std::uint16_t*>(data)[i] = dtype == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
    }
  }
}

QuantizeTask make_task(const KernelCase& what, Axis axis) {
  QuantizeTask task;
  task.spec = {.format = what.format, .rounding = what.rounding, .hadamard = make_hadamard(what.hadamard, 1)};
  task.place = {.axis = axis, .seed = 1, .step = 2, .stream = 3};
  return task;
}

}  // namespace

struct PreparedKernel::Memory {
  Buffer input;
  std::vector<Buffer> outputs;
  std::vector<QuantizeTask> tasks;
  ConstMatrix matrix;
};

PreparedKernel::PreparedKernel(const Backend& backend, const KernelCase& what, std::int64_t rows,
                               std::int64_t columns) {
  const std::int64_t matrix_bytes = rows * columns * static_cast<std::int64_t>(size_of(what.input));
  memory_ = std::make_shared<Memory>(Memory{Buffer(matrix_bytes), {}, {}, {}});
  Memory& memory = *memory_;
  fill_normal(memory.input.data(), what.input, rows * columns);
  memory.matrix = {memory.input.data(), what.input, rows, columns, columns};
  row_ = {"quantize", "-", 0, "-", "-", std::string(name_of(what.input)), matrix_bytes, 0, 0, 0};

  if (what.kernel == Kernel::kMemcpy) {
    row_.kernel = "memcpy";
    row_.bytes += matrix_bytes;
    memory.outputs.emplace_back(matrix_bytes);
    work_ = [memory = memory_, matrix_bytes] {
      std::memcpy(memory->outputs[0].data(), memory->input.data(), static_cast<std::size_t>(matrix_bytes));
    };
    return;
  }

  row_.format = what.format->name;
  row_.hadamard = what.hadamard;
  row_.rounding = what.rounding == Rounding::kStochastic ? "sr" : "rtne";
  row_.axis = what.kernel == Kernel::kRow ? "row" : what.kernel == Kernel::kColumn ? "column" : "both";
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    const bool row_only = what.kernel == Kernel::kRow || what.kernel == Kernel::kDequantize;
    if ((row_only && axis == Axis::kColumn) || (what.kernel == Kernel::kColumn && axis == Axis::kRow)) continue;
    QuantizeTask task = make_task(what, axis);
    const QuantizedShape shape = quantized_shape(rows, columns, task.spec, axis);
    const std::int64_t code_bytes = shape.rows * shape.codes_per_row();
    const std::int64_t scale_bytes = shape.rows * shape.scales_per_row * static_cast<std::int64_t>(sizeof(float));
    task.out.codes = memory.outputs.emplace_back(code_bytes).data();
    task.out.scales = memory.outputs.emplace_back(scale_bytes).as<float>();
    memory.tasks.push_back(task);
    row_.bytes += code_bytes + scale_bytes;
  }
  work_ = [memory = memory_, &backend] { backend.quantize(memory->matrix, memory->tasks); };
  if (what.kernel != Kernel::kDequantize) return;

  work_();
  row_.kernel = "dequantize";
  row_.rounding = "-";
  row_.axis = "-";
  row_.hadamard = 0;
  const std::int64_t out_bytes = rows * columns * static_cast<std::int64_t>(size_of(DType::kBF16));
  row_.bytes += out_bytes - matrix_bytes;
  row_.input = row_.format;
  memory.outputs.emplace_back(out_bytes);
  const QuantizeTask& task = memory.tasks[0];
  const ConstQuantized codes{what.format, 0, rows, columns, task.out.codes, task.out.scales};
  work_ = [memory = memory_, &backend, codes] {
    backend.dequantize(codes, memory->outputs.back().data(), DType::kBF16);
  };
}

std::vector<KernelCase> standard_cases() {
  const BlockFormat& e1m2 = find_format("e1m2");
  const BlockFormat& full = find_format("int4_full");
  const BlockFormat& e2m1 = find_format("e2m1");
  constexpr auto kSr = Rounding::kStochastic;
  constexpr auto kRtne = Rounding::kNearest;
  std::vector<KernelCase> cases{
      {Kernel::kRow, &e1m2, 16, kRtne, DType::kBF16},       {Kernel::kColumn, &e1m2, 16, kRtne, DType::kBF16},
      {Kernel::kRowColumn, &e1m2, 16, kRtne, DType::kBF16}, {Kernel::kRow, &e1m2, 16, kSr, DType::kBF16},
      {Kernel::kColumn, &e1m2, 16, kSr, DType::kBF16},      {Kernel::kRow, &e1m2, 0, kRtne, DType::kBF16},
      {Kernel::kRow, &e1m2, 32, kRtne, DType::kBF16},       {Kernel::kRow, &e1m2, 64, kRtne, DType::kBF16},
      {Kernel::kRow, &e1m2, 128, kRtne, DType::kBF16},      {Kernel::kRow, &e1m2, 16, kRtne, DType::kF32},
      {Kernel::kRow, &e1m2, 16, kRtne, DType::kF16},        {Kernel::kRow, &full, 16, kRtne, DType::kBF16},
      {Kernel::kColumn, &full, 16, kRtne, DType::kBF16},    {Kernel::kRow, &full, 16, kSr, DType::kBF16},
      {Kernel::kRow, &e2m1, 16, kRtne, DType::kBF16},       {Kernel::kRow, &e2m1, 0, kRtne, DType::kBF16},
      {Kernel::kRow, &e2m1, 0, kSr, DType::kBF16},          {Kernel::kDequantize, &e1m2, 0, kRtne, DType::kBF16},
      {Kernel::kDequantize, &e2m1, 0, kRtne, DType::kBF16},
  };
  // Formats with other scales; those of a tensor take a pass before.
  for (const char* name : {"nvfp4", "nvint4", "int4_p2", "mxfp4", "mxint4", "four_over_six", "mixfp4", "hif4"}) {
    cases.push_back({Kernel::kRow, &find_format(name), 16, kRtne, DType::kBF16});
  }
  cases.push_back({Kernel::kColumn, &find_format("int4_p2"), 16, kRtne, DType::kBF16});
  cases.push_back({Kernel::kRow, &find_format("int4_p2"), 16, kSr, DType::kBF16});
  return cases;
}

std::vector<KernelRow> measure_kernels(const Backend& backend, const std::vector<KernelCase>& cases,
                                       const BenchOptions& options,
                                       const std::function<void(const KernelRow&)>& progress) {
  if (options.rows < 1 || options.columns < 1 || options.repeats < 1) {
    throw InputError("bench: rows, columns and repeats must be at least 1");
  }
  const PreparedKernel copy(backend, {Kernel::kMemcpy, nullptr, 0, Rounding::kNearest, DType::kBF16}, options.rows,
                            options.columns);
  std::vector<KernelRow> rows{copy.row()};
  std::vector<double> all_copies;
  const auto rate = [](KernelRow& row, double time) {
    row.microseconds = time;
    row.gb_per_s = static_cast<double>(row.bytes) / time / 1e3;
  };
  for (const KernelCase& what : cases) {
    const PreparedKernel kernel(backend, what, options.rows, options.columns);
    copy.run();
    kernel.run();
    std::vector<double> times;
    std::vector<double> ratios;
    double before = microseconds([&] { copy.run(); });
    for (int i = 0; i < options.repeats; ++i) {
      times.push_back(microseconds([&] { kernel.run(); }));
      const double after = microseconds([&] { copy.run(); });
      ratios.push_back((before + after) / 2 / times.back());
      all_copies.push_back(after);
      before = after;
    }
    KernelRow row = kernel.row();
    rate(row, median(times));
    row.share_of_memcpy = median(ratios) * static_cast<double>(row.bytes) / static_cast<double>(copy.row().bytes);
    rows.push_back(row);
    if (progress) progress(row);
  }
  if (!all_copies.empty()) rate(rows[0], median(all_copies));
  rows[0].share_of_memcpy = 1;
  if (progress) progress(rows[0]);
  return rows;
}

}  // namespace ufp4::bench
