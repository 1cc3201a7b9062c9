#include "cuda/backend.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cuda/quantize.h"
#include "numerics/outer_amax.h"
#include "numerics/scale_rules.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

// A slab of rows travels to the device and back at a time: about this many elements, a multiple of kSlabRows rows.
constexpr std::int64_t kSlabElements = std::int64_t{1} << 25;
constexpr std::int64_t kSlabRows =
    1024;  // the longest second-level segment: a slab's are whole, and its blocks and transforms too

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw RunError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::int64_t bytes) {
    if (bytes == 0) return;
    const cudaError_t error = cudaMalloc(&data_, static_cast<std::size_t>(bytes));
    if (error == cudaSuccess) return;
    cudaGetLastError();  // the runtime keeps the error; it is reported here
    std::size_t free = 0;
    std::size_t total = 0;
    cudaMemGetInfo(&free, &total);
    throw RunError("CUDA: no " + std::to_string(bytes) + " bytes of GPU memory: " + std::to_string(free) + " of " +
                   std::to_string(total) + " are free");
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// Arrays of an operand that are indexed by row and column, a number of elements a byte or several bytes an element.
struct Density {
  std::int64_t elements, bytes;  // `bytes` hold `elements` neighbouring elements of a row

  std::int64_t of(std::int64_t count) const { return count / elements * bytes; }
};

void copy_2d(void* to, std::int64_t to_pitch, const void* from, std::int64_t from_pitch, std::int64_t width,
             std::int64_t rows, cudaMemcpyKind kind, const char* what) {
  if (width == 0 || rows == 0) return;
  const auto size = [](std::int64_t x) { return static_cast<std::size_t>(x); };
  check(cudaMemcpy2D(to, size(to_pitch), from, size(from_pitch), size(width), size(rows), kind), what);
}

// A piece of a matrix: rows [first, first + count) of it, dense on the device.
struct Slab {
  std::int64_t first, count;
};

// The amax of what shares a second-level scale, for a slab: part of an array of the whole operand.
class SlabAmax {
 public:
  SlabAmax(const OperandSpec& spec, Axis axis, const ConstMatrix& whole)
      : spec_(spec), axis_(axis), whole_(outer_shape(quantized_shape(whole.rows, whole.columns, spec, axis), each())) {
    if (spec.format->has_outer_scale()) buffer_ = std::make_unique<DeviceBuffer>(whole_.rows * whole_.columns * 4);
  }

  float* device() const { return buffer_ == nullptr ? nullptr : buffer_->as<float>(); }
  void send(const float* host, const Slab& slab, std::int64_t columns) const { copy(host, nullptr, slab, columns); }
  void fetch(float* host, const Slab& slab, std::int64_t columns) const { copy(nullptr, host, slab, columns); }

 private:
  OuterScale each() const { return spec_.outer_each(); }

  // Slabs begin at whole tiles, or lie within one.
  void copy(const float* from, float* to, const Slab& slab, std::int64_t columns) const {
    if (buffer_ == nullptr) return;
    const OuterShape part = outer_shape(quantized_shape(slab.count, columns, spec_, axis_), each());
    const std::int64_t row = axis_ == Axis::kRow ? slab.first / whole_.rows_each : 0;
    const std::int64_t column = axis_ == Axis::kRow ? 0 : slab.first / whole_.columns_each;
    const std::int64_t start = row * whole_.columns + column;
    if (from != nullptr) {
      copy_2d(device(), part.columns * 4, from + start, whole_.columns * 4, part.columns * 4, part.rows,
              cudaMemcpyHostToDevice, "copying magnitudes to the GPU");
    } else {
      copy_2d(to + start, whole_.columns * 4, device(), part.columns * 4, part.columns * 4, part.rows,
              cudaMemcpyDeviceToHost, "copying magnitudes from the GPU");
    }
  }

  OperandSpec spec_;
  Axis axis_;
  OuterShape whole_;
  std::unique_ptr<DeviceBuffer> buffer_;
};

// One task's results on the device for a slab.
class SlabTask {
 public:
  SlabTask(const QuantizeTask& task, const ConstMatrix& whole, std::int64_t slab_rows)
      : task_(task),
        whole_(quantized_shape(whole.rows, whole.columns, task.spec, task.place.axis)),
        amax_(task.spec, task.place.axis, whole),
        row_numbers_(task.place.row_numbers != nullptr ? slab_rows * 4 : 0),
        seen_(8) {
    const QuantizedShape largest = quantized_shape(slab_rows, whole.columns, task.spec, task.place.axis);
    const BlockFormat& format = *task.spec.format;
    const std::int64_t block = task.spec.block_size();
    const Quantized& out = task.out;
    add(out.codes, {2, 1}, largest);
    add(out.scales, {block, 4}, largest);
    add(out.dequantized, {1, static_cast<std::int64_t>(size_of(out.dequantized_dtype))}, largest);
    add(format.selector_block == 0 ? nullptr : out.selectors, {format.selector_block, 1}, largest);
    add(out.packed_scales, {block, format.packed_scale_bytes()}, largest);
    add(out.e4m3, {1, 1}, largest);
    add(out.int8, {1, 1}, largest);
    check(cudaMemset(seen_.as<void>(), 0, 8), "clearing counters on the GPU");
  }

  // The task for a slab, with device pointers.
  DeviceTask at(const Slab& slab, std::int64_t columns) const {
    QuantizeTask task = task_;
    Place& place = task.place;
    (place.axis == Axis::kRow ? place.row_offset : place.column_offset) += static_cast<std::uint32_t>(slab.first);
    if (place.row_numbers != nullptr) {
      check(cudaMemcpy(row_numbers_.as<void>(), place.row_numbers + slab.first,
                       static_cast<std::size_t>(slab.count * 4), cudaMemcpyHostToDevice),
            "copying row numbers to the GPU");
      place.row_numbers = row_numbers_.as<std::uint32_t>();
    }
    if (task.outer_amax != nullptr) amax_.send(task_.outer_amax, slab, columns);
    task.outer_amax = amax_.device();
    Quantized& out = task.out;
    out.codes = buffer<std::uint8_t>(0);
    out.scales = buffer<float>(1);
    out.dequantized = buffer<void>(2);
    out.selectors = buffer<std::uint8_t>(3);
    out.packed_scales = buffer<std::uint8_t>(4);
    out.e4m3 = buffer<std::uint8_t>(5);
    out.int8 = buffer<std::int8_t>(6);
    out.outer_scales = nullptr;
    if (out.amax != nullptr) out.amax = seen_.as<float>();
    if (out.clipped != nullptr) out.clipped = seen_.as<std::uint32_t>() + 1;
    return {task, {}, nullptr};
  }

  // Copies the results of that slab to their place in host memory.
  void fetch(const Slab& slab, std::int64_t columns) const {
    const QuantizedShape shape = quantized_shape(slab.count, columns, task_.spec, task_.place.axis);
    for (const Array& array : arrays_) {
      if (array.host == nullptr) continue;
      const std::int64_t pitch = array.density.of(whole_.columns);
      const std::int64_t width = array.density.of(shape.columns);
      const std::int64_t start = task_.place.axis == Axis::kRow ? slab.first * pitch : array.density.of(slab.first);
      copy_2d(static_cast<std::byte*>(array.host) + start, pitch, array.device->as<void>(), width, width, shape.rows,
              cudaMemcpyDeviceToHost, "copying results from the GPU");
    }
  }

  // What was counted over all slabs.
  void fetch_counts() const {
    if (task_.out.amax == nullptr && task_.out.clipped == nullptr) return;
    struct {
      float amax;
      std::uint32_t clipped;
    } seen{};
    check(cudaMemcpy(&seen, seen_.as<void>(), sizeof seen, cudaMemcpyDeviceToHost), "copying counts from the GPU");
    if (task_.out.amax != nullptr) *task_.out.amax = std::max(*task_.out.amax, seen.amax);
    if (task_.out.clipped != nullptr) *task_.out.clipped += seen.clipped;
  }

 private:
  struct Array {
    void* host;
    Density density;
    std::unique_ptr<DeviceBuffer> device;
  };

  void add(void* host, Density density, const QuantizedShape& largest) {
    const std::int64_t bytes = host == nullptr ? 0 : largest.rows * density.of(largest.columns);
    arrays_.push_back({host, density, std::make_unique<DeviceBuffer>(bytes)});
  }
  template <typename T>
  T* buffer(std::size_t i) const {
    return arrays_[i].device->as<T>();
  }

  QuantizeTask task_;
  QuantizedShape whole_;
  SlabAmax amax_;
  DeviceBuffer row_numbers_;
  DeviceBuffer seen_;  // amax, and how many blocks were clipped
  std::vector<Array> arrays_;
};

std::int64_t slab_rows(std::int64_t rows, std::int64_t columns) {
  const std::int64_t fitting = kSlabElements / columns / kSlabRows * kSlabRows;
  return std::min(rows, std::max(fitting, kSlabRows));
}

// A matrix in host memory, on the device slab after slab.
class Slabs {
 public:
  Slabs(const ConstMatrix& in, RowRange range)
      : in_(in),
        range_(range),
        rows_(slab_rows(range.last - range.first, in.columns)),
        element_(static_cast<std::int64_t>(size_of(in.dtype))),
        input_(rows_ * in.columns * element_) {}

  std::int64_t rows() const { return rows_; }

  // Calls f(slab, matrix) for each: slabs begin at multiples of kSlabRows, but for the first.
  template <typename F>
  void for_each(F f) const {
    const std::int64_t width = in_.columns * element_;
    for (std::int64_t first = range_.first; first < range_.last;) {
      const std::int64_t end = first + rows_;
      const std::int64_t whole =
          end >= range_.last || end / kSlabRows * kSlabRows <= first ? end : end / kSlabRows * kSlabRows;
      const Slab slab{first, std::min(whole, range_.last) - first};
      copy_2d(input_.as<void>(), width, static_cast<const std::byte*>(in_.data) + first * in_.row_stride * element_,
              in_.row_stride * element_, width, slab.count, cudaMemcpyHostToDevice, "copying a matrix to the GPU");
      f(slab, ConstMatrix{input_.as<void>(), in_.dtype, slab.count, in_.columns, in_.columns});
      first += slab.count;
    }
  }

 private:
  ConstMatrix in_;
  RowRange range_;
  std::int64_t rows_, element_;
  DeviceBuffer input_;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend() : status_(device_status()), description_("CUDA kernels: " + status_.sentence) {}

  std::string_view name() const override { return "cuda"; }
  std::string_view description() const override { return description_; }
  std::string_view device() const override { return status_.usable ? status_.sentence : std::string_view{}; }
  bool available() const override { return status_.usable; }
  bool has_kernels(const BlockFormat& format) const override { return cuda::has_kernels(format); }

 protected:
  void run_quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange range) const override {
    const Slabs slabs(in, range);
    std::vector<std::unique_ptr<SlabTask>> on_device;
    for (const QuantizeTask& task : tasks) {
      on_device.push_back(std::make_unique<SlabTask>(task, in, slabs.rows()));
      if (task.out.outer_scales != nullptr && range.first == 0) write_outer_scales(in, task);
    }
    slabs.for_each([&](const Slab& slab, const ConstMatrix& matrix) {
      std::vector<DeviceTask> device_tasks;
      device_tasks.reserve(on_device.size());
      for (const auto& task : on_device) device_tasks.push_back(task->at(slab, in.columns));
      cuda::quantize(matrix, device_tasks, nullptr);
      for (const auto& task : on_device) task->fetch(slab, in.columns);
    });
    for (const auto& task : on_device) task->fetch_counts();
  }

  void run_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange range,
                      float* amax) const override {
    if (!takes(spec) || !spec.format->has_outer_scale()) {
      return Backend::run_outer_amax(in, spec, place, range, amax);
    }
    const SlabAmax on_device(spec, place.axis, in);
    const Slabs slabs(in, range);
    slabs.for_each([&](const Slab& slab, const ConstMatrix& matrix) {
      on_device.send(amax, slab, in.columns);
      const AmaxTask task{spec, place, on_device.device()};
      cuda::raise_outer_amax(matrix, {&task, 1}, nullptr);
      on_device.fetch(amax, slab, in.columns);
    });
  }

  void run_dequantize(const ConstQuantized& in, void* out, DType out_dtype) const override {
    const std::int64_t rows = slab_rows(in.rows, in.columns);
    const std::int64_t block = in.block == 0 ? in.format->block : in.block;
    const std::int64_t selector_block = in.selectors == nullptr ? 0 : in.format->selector_block;
    const auto element = static_cast<std::int64_t>(size_of(out_dtype));
    const DeviceBuffer codes(rows * in.columns / 2);
    const DeviceBuffer scales(rows * in.columns / block * 4);
    const DeviceBuffer selectors(selector_block == 0 ? 0 : rows * in.columns / selector_block);
    // Those that stay apart: one, or some for each row.
    const std::int64_t outer_columns =
        in.outer == OuterScale::kTensor ? 0 : outer_shape({rows, in.columns, in.columns, 0}, in.outer).columns;
    const DeviceBuffer outer(in.outer_scales == nullptr ? 0 : std::max<std::int64_t>(1, rows * outer_columns) * 4);
    const DeviceBuffer values(rows * in.columns * element);
    const auto send = [](const DeviceBuffer& to, const void* from, std::int64_t bytes, const char* what) {
      check(cudaMemcpy(to.as<void>(), from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice), what);
    };
    const bool outer_rows = in.outer_scales != nullptr && outer_columns != 0;
    if (in.outer_scales != nullptr && !outer_rows) {
      send(outer, in.outer_scales, 4, "copying a second-level scale to the GPU");
    }
    for (std::int64_t first = 0; first < in.rows; first += rows) {
      const std::int64_t count = std::min(rows, in.rows - first) * in.columns;
      const std::int64_t start = first * in.columns;
      send(codes, in.codes + start / 2, count / 2, "copying codes to the GPU");
      send(scales, in.scales + start / block, count / block * 4, "copying scales to the GPU");
      if (selector_block != 0) {
        send(selectors, in.selectors + start / selector_block, count / selector_block, "copying selectors to the GPU");
      }
      if (outer_rows) {
        send(outer, in.outer_scales + first * outer_columns, count / in.columns * outer_columns * 4,
             "copying second-level scales to the GPU");
      }
      ConstQuantized slab = in;
      slab.rows = count / in.columns;
      slab.codes = codes.as<std::uint8_t>();
      slab.scales = scales.as<float>();
      slab.selectors = selectors.as<std::uint8_t>();
      slab.packed_scales = nullptr;
      slab.outer_scales = outer.as<float>();
      cuda::dequantize(slab, values.as<void>(), out_dtype, nullptr);
      check(cudaMemcpy(static_cast<std::byte*>(out) + start * element, values.as<void>(),
                       static_cast<std::size_t>(count * element), cudaMemcpyDeviceToHost),
            "copying values from the GPU");
    }
  }

 private:
  static void write_outer_scales(const ConstMatrix& in, const QuantizeTask& task) {
    const QuantizedShape shape = quantized_shape(in.rows, in.columns, task.spec, task.place.axis);
    const OuterAmax amax(task, shape);
    std::transform(amax.all().begin(), amax.all().end(), task.out.outer_scales,
                   [&](float x) { return reference::outer_scale(*task.spec.format, x); });
  }

  DeviceStatus status_;
  std::string description_;
};

}  // namespace

const Backend& backend() {
  static const CudaBackend instance;
  return instance;
}

}  // namespace ufp4::cuda
