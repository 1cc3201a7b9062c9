#include "cuda/backend.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cuda/quantize.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

// A slab of rows travels to the device and back at a time: about this many elements, a multiple of kSlabRows rows.
constexpr std::int64_t kSlabElements = std::int64_t{1} << 25;
constexpr std::int64_t kSlabRows = 128;  // the longest block and transform: a slab's column runs are whole

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

// One task's results on the device for a slab.
class SlabTask {
 public:
  SlabTask(const QuantizeTask& task, const ConstMatrix& whole, std::int64_t slab_rows)
      : task_(task),
        whole_(quantized_shape(whole.rows, whole.columns, task.spec)),
        largest_(quantized_shape(slab_rows, whole.columns, task.spec)),
        value_bytes_(static_cast<std::int64_t>(size_of(task.out.dequantized_dtype))),
        codes_(task.out.codes != nullptr ? largest_.rows * largest_.codes_per_row() : 0),
        scales_(task.out.scales != nullptr ? largest_.rows * largest_.scales_per_row * 4 : 0),
        dequantized_(task.out.dequantized != nullptr ? largest_.rows * largest_.columns * value_bytes_ : 0) {}

  // The task for the slab that starts at stored row `first`, with device pointers.
  QuantizeTask at(std::int64_t first) const {
    QuantizeTask slab = task_;
    auto& random = slab.spec.random;
    auto& offset = task_.spec.axis == Axis::kRow ? random.row_offset : random.column_offset;
    offset += static_cast<std::uint32_t>(first);
    slab.out.codes = codes_.as<std::uint8_t>();
    slab.out.scales = scales_.as<float>();
    slab.out.dequantized = dequantized_.as<void>();
    slab.out.global_scale = nullptr;
    return slab;
  }

  // Copies the results of that slab, of `rows` stored rows and `columns` columns, to their place in host memory.
  void fetch(std::int64_t first, std::int64_t rows, std::int64_t columns) const {
    const QuantizedShape slab = quantized_shape(rows, columns, task_.spec);
    const std::int64_t block = task_.spec.block_size();
    const auto copy = [&](void* to, const void* from, std::int64_t elements, std::int64_t bytes) {
      // `bytes` hold `elements` neighbouring elements of an operand's row.
      if (to == nullptr) return;
      const std::int64_t pitch = whole_.columns / elements * bytes;
      const std::int64_t width = slab.columns / elements * bytes;
      const std::int64_t start = task_.spec.axis == Axis::kRow ? first * pitch : first / elements * bytes;
      check(cudaMemcpy2D(static_cast<std::byte*>(to) + start, static_cast<std::size_t>(pitch), from,
                         static_cast<std::size_t>(width), static_cast<std::size_t>(width),
                         static_cast<std::size_t>(slab.rows), cudaMemcpyDeviceToHost),
            "copying results from the GPU");
    };
    copy(task_.out.codes, codes_.as<void>(), 2, 1);
    copy(task_.out.scales, scales_.as<void>(), block, 4);
    copy(task_.out.dequantized, dequantized_.as<void>(), 1, value_bytes_);
  }

 private:
  QuantizeTask task_;
  QuantizedShape whole_;
  QuantizedShape largest_;
  std::int64_t value_bytes_;
  DeviceBuffer codes_;
  DeviceBuffer scales_;
  DeviceBuffer dequantized_;
};

std::int64_t slab_rows(std::int64_t rows, std::int64_t columns) {
  const std::int64_t fitting = kSlabElements / columns / kSlabRows * kSlabRows;
  return std::min(rows, std::max(fitting, kSlabRows));
}

class CudaBackend final : public Backend {
 public:
  CudaBackend() : status_(device_status()), description_("CUDA kernels: " + status_.sentence) {}

  std::string_view name() const override { return "cuda"; }
  std::string_view description() const override { return description_; }
  std::string_view device() const override { return status_.usable ? status_.sentence : std::string_view{}; }
  bool available() const override { return status_.usable; }

 protected:
  void run_quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange range) const override {
    const std::int64_t rows = slab_rows(range.last - range.first, in.columns);
    const auto element = static_cast<std::int64_t>(size_of(in.dtype));
    const DeviceBuffer input(rows * in.columns * element);
    std::vector<std::unique_ptr<SlabTask>> slabs;
    for (const QuantizeTask& task : tasks) {
      slabs.push_back(std::make_unique<SlabTask>(task, in, rows));
      if (task.out.global_scale != nullptr && range.first == 0) *task.out.global_scale = 1;
    }
    for (std::int64_t first = range.first; first < range.last; first += rows) {
      const std::int64_t count = std::min(rows, range.last - first);
      const auto width = static_cast<std::size_t>(in.columns * element);
      check(cudaMemcpy2D(input.as<void>(), width,
                         static_cast<const std::byte*>(in.data) + first * in.row_stride * element,
                         static_cast<std::size_t>(in.row_stride * element), width, static_cast<std::size_t>(count),
                         cudaMemcpyHostToDevice),
            "copying a matrix to the GPU");
      std::vector<QuantizeTask> device_tasks;
      device_tasks.reserve(slabs.size());
      for (const auto& slab : slabs) device_tasks.push_back(slab->at(first));
      cuda::quantize({input.as<void>(), in.dtype, count, in.columns, in.columns}, device_tasks, nullptr);
      for (const auto& slab : slabs) slab->fetch(first, count, in.columns);
    }
  }

  void run_dequantize(const ConstQuantized& in, void* out, DType out_dtype) const override {
    const std::int64_t rows = slab_rows(in.rows, in.columns);
    const std::int64_t block = in.block == 0 ? in.format->block : in.block;
    const auto element = static_cast<std::int64_t>(size_of(out_dtype));
    const DeviceBuffer codes(rows * in.columns / 2);
    const DeviceBuffer scales(rows * in.columns / block * 4);
    const DeviceBuffer values(rows * in.columns * element);
    for (std::int64_t first = 0; first < in.rows; first += rows) {
      const std::int64_t count = std::min(rows, in.rows - first) * in.columns;
      const std::int64_t start = first * in.columns;
      check(cudaMemcpy(codes.as<void>(), in.codes + start / 2, static_cast<std::size_t>(count / 2),
                       cudaMemcpyHostToDevice),
            "copying codes to the GPU");
      check(cudaMemcpy(scales.as<void>(), in.scales + start / block, static_cast<std::size_t>(count / block * 4),
                       cudaMemcpyHostToDevice),
            "copying scales to the GPU");
      ConstQuantized slab = in;
      slab.rows = count / in.columns;
      slab.codes = codes.as<std::uint8_t>();
      slab.scales = scales.as<float>();
      cuda::dequantize(slab, values.as<void>(), out_dtype, nullptr);
      check(cudaMemcpy(static_cast<std::byte*>(out) + start * element, values.as<void>(),
                       static_cast<std::size_t>(count * element), cudaMemcpyDeviceToHost),
            "copying values from the GPU");
    }
  }

 private:
  DeviceStatus status_;
  std::string description_;
};

}  // namespace

const Backend& backend() {
  static const CudaBackend instance;
  return instance;
}

}  // namespace ufp4::cuda
