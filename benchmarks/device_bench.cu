#include "device_bench.h"

#include <numeric>
#include <utility>

#include "cuda/layers.h"
#include "cuda/quantize.h"
#include "device_timing.h"
#include "ufp4/format.h"

namespace ufp4::bench {
namespace {

using cuda::Bf16;

constexpr int kSets = 2;  // of arrays, by turns: no cache holds what a run reads

// Roughly normal values in BF16. Two of them are an ordinary FP32 value as well.
__global__ void fill(Bf16* to, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    to[i] = static_cast<Bf16>(__float_as_uint(roughly_normal(hash_bits(i))) >> 16);
  }
}

// kSets arrays of BF16 values, filled.
class Arrays {
 public:
  explicit Arrays(std::int64_t values) {
    for (void*& array : arrays_) {
      array = device_array<Bf16>(values);
      fill<<<1024, 256>>>(static_cast<Bf16*>(array), values);
    }
    check(cudaDeviceSynchronize());
  }
  ~Arrays() {
    for (void* array : arrays_) cudaFree(array);
  }
  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;

  Bf16* bf16(int set) const { return as<Bf16>(set); }
  template <typename T>
  T* as(int set) const {
    return static_cast<T*>(arrays_[static_cast<std::size_t>(set)]);
  }

 private:
  std::vector<void*> arrays_ = std::vector<void*>(kSets);
};

DeviceTask task_of(const char* format, Axis axis, Rounding rounding, int hadamard, const float* amax) {
  DeviceTask task;
  task.task.spec = {&find_format(format), 0, rounding, make_hadamard(hadamard, 1)};
  task.task.place = {axis, 1, 2, 3};
  if (task.task.spec.format->has_outer_scale()) task.task.outer_amax = amax;
  return task;
}

// What finds the amax of the operands that need one.
std::vector<cuda::AmaxTask> amax_tasks(const std::vector<DeviceTask>& tasks) {
  std::vector<cuda::AmaxTask> result;
  for (const DeviceTask& task : tasks) {
    if (task.task.outer_amax == nullptr) continue;
    result.push_back({task.task.spec, task.task.place, const_cast<float*>(task.task.outer_amax)});
  }
  return result;
}

constexpr double kE4m3X = 1 + 0.5625;  // bytes an element: a row's, and a packed column's

class Table {
 public:
  Table(std::int64_t rows, std::int64_t columns, int repeats, const std::function<void(const DeviceRow&)>& row)
      : rows_(rows),
        columns_(columns),
        repeats_(repeats),
        row_(row),
        wide_(2 * rows * columns),
        narrow_(rows * columns),
        other_(rows * columns),
        result_(2 * rows * columns),
        row_values_(2 * rows * columns),
        column_values_(2 * rows * columns),
        amax_(16),
        small_(rows * columns / 4 + 2 * (rows + columns) + 2 * cuda::rms_norm_backward_workspace(rows, columns) + 64) {}

  void run() {
    set_amax(5);
    copy();
    quantizations();
    other_formats();
    norm();
    swiglu();
    rotary();
    weight();
  }

 private:
  DeviceTask task(const char* format, Axis axis, Rounding rounding, int hadamard) const {
    return task_of(format, axis, rounding, hadamard, amax_.as<float>(0) + (axis == Axis::kRow ? 0 : 1));
  }
  // The two results of an activation: values of the rows, packed columns.
  std::vector<DeviceTask> activation(const char* format, int set, int hadamard = 16) const {
    std::vector<DeviceTask> tasks{task(format, Axis::kRow, Rounding::kNearest, hadamard),
                                  task(format, Axis::kColumn, Rounding::kNearest, hadamard)};
    tasks[0].task.out.dequantized = row_values_.bf16(set);
    tasks[1].task.out.codes = column_values_.as<std::uint8_t>(set);
    tasks[1].task.out.packed_scales = small_.as<std::uint8_t>(set);
    return tasks;
  }
  // Of a gradient: values of both, stochastic.
  std::vector<DeviceTask> gradient(const char* format, int set, int hadamard = 16) const {
    std::vector<DeviceTask> tasks{task(format, Axis::kRow, Rounding::kStochastic, hadamard),
                                  task(format, Axis::kColumn, Rounding::kStochastic, hadamard)};
    tasks[0].task.out.dequantized = row_values_.bf16(set);
    tasks[1].task.place.stream = 4;
    tasks[1].task.out.dequantized = column_values_.bf16(set);
    return tasks;
  }
  // E4M3 operands of int4_p2; an activation's columns are packed.
  std::vector<DeviceTask> eight_bit(Rounding rounding, int set, bool packed) const {
    std::vector<DeviceTask> tasks{task("int4_p2", Axis::kRow, rounding, 16),
                                  task("int4_p2", Axis::kColumn, rounding, 16)};
    tasks[0].task.out.e4m3 = row_values_.as<std::uint8_t>(set);
    if (packed) {
      tasks[1].task.out.codes = column_values_.as<std::uint8_t>(set);
      tasks[1].task.out.packed_scales = small_.as<std::uint8_t>(set);
    } else {
      tasks[1].task.out.e4m3 = column_values_.as<std::uint8_t>(set);
    }
    return tasks;
  }
  std::vector<DeviceTask> packed(Axis axis, Rounding rounding, int hadamard, int set) const {
    std::vector<DeviceTask> tasks{task("e1m2", axis, rounding, hadamard)};
    tasks[0].task.out.codes = row_values_.as<std::uint8_t>(set);
    tasks[0].task.out.packed_scales = small_.as<std::uint8_t>(set);
    return tasks;
  }

  // `bytes` an element of the [rows, columns] matrix; returns the time.
  double report(const std::string& kernel, double bytes, const std::function<void(int)>& run, double quantize = 0,
                double parts = 0) {
    const double us = measure(kSets, 1, run, repeats_);
    const double moved = bytes * static_cast<double>(rows_) * static_cast<double>(columns_);
    if (rate_ == 0) rate_ = moved / us;
    row_({kernel, moved, us, moved / us / rate_, quantize == 0 ? 0 : us / quantize, parts == 0 ? 0 : us / parts});
    return us;
  }
  double quantize(const std::string& kernel, double bytes, const Arrays& from, std::int64_t columns,
                  const std::function<std::vector<DeviceTask>(int)>& tasks, double plain = 0) {
    return report(
        kernel, bytes,
        [&](int s) {
          cuda::quantize({from.bf16(s), DType::kBF16, rows_, columns, columns}, tasks(s), nullptr);
        },
        plain);
  }

  // A layer and the quantization of its result in one kernel, beside the quantization alone and both in turn.
  template <typename Layer, typename Tasks>
  void fused(const std::string& kernel, double bytes, const Layer& layer, const Tasks& tasks, double quantize_us,
             double layer_us) {
    report(
        kernel, bytes, [&](int s) { cuda::quantize(layer(s), tasks(s), nullptr); }, quantize_us,
        layer_us + quantize_us);
  }

  void copy() {
    const auto bytes = static_cast<std::size_t>(rows_ * columns_ * 2);
    report("copy, device to device", 4,
           [&](int s) { check(cudaMemcpyAsync(result_.bf16(s), narrow_.bf16(s), bytes, cudaMemcpyDeviceToDevice)); });
  }

  void quantizations() {
    const std::pair<const char*, Axis> axes[] = {{"rows", Axis::kRow}, {"columns", Axis::kColumn}};
    for (const auto& [name, axis] : axes) {
      const std::string what = std::string("e1m2 ") + name + " packed";
      const auto tasks = [this, axis = axis](Rounding rounding, int hadamard) {
        return [this, axis, rounding, hadamard](int s) { return packed(axis, rounding, hadamard, s); };
      };
      const double plain = quantize(what, 2.75, narrow_, columns_, tasks(Rounding::kNearest, 0));
      quantize(what + ", RHT-16", 2.75, narrow_, columns_, tasks(Rounding::kNearest, 16), plain);
      quantize(what + ", RHT-16, SR", 2.75, narrow_, columns_, tasks(Rounding::kStochastic, 16), plain);
    }
    for (const char* format : {"e1m2", "int4_full", "e2m1", "int4_p2"}) {
      const std::string name = format;
      const double x = quantize(name + " x: rows BF16, columns packed, RHT-16", 4.75, narrow_, columns_,
                                [&](int s) { return activation(format, s); });
      quantize(name + " dy: rows and columns BF16, RHT-16, SR", 6, narrow_, columns_,
               [&](int s) { return gradient(format, s); });
      if (name == "e1m2") x_us_ = x;
    }
    e4m3_x_us_ = quantize("int4_p2 x: rows E4M3, columns packed, RHT-16", 2 + kE4m3X, narrow_, columns_,
                          [&](int s) { return eight_bit(Rounding::kNearest, s, true); });
    e4m3_dy_us_ = quantize("int4_p2 dy: rows and columns E4M3, RHT-16, SR", 4, narrow_, columns_,
                           [&](int s) { return eight_bit(Rounding::kStochastic, s, false); });
    const auto unpack = [&](const char* format, int s) {
      ConstQuantized in{&find_format(format), 0, columns_, rows_, column_values_.as<std::uint8_t>(s)};
      in.packed_scales = small_.as<std::uint8_t>(s);
      return in;
    };
    report("unpack e1m2 to BF16", 2.75,
           [&](int s) { cuda::dequantize(unpack("e1m2", s), result_.bf16(s), DType::kBF16, nullptr); });
    report("unpack nvfp4 to BF16", 0.5625 + 2,
           [&](int s) { cuda::dequantize(unpack("nvfp4", s), result_.bf16(s), DType::kBF16, nullptr); });
    report("unpack int4_p2 to E4M3", 0.5625 + 1,
           [&](int s) { cuda::dequantize_e4m3(unpack("int4_p2", s), result_.as<std::uint8_t>(s), nullptr); });
  }

  // What the operands of int4_p2 are expected to hold.
  void set_amax(float amax) {
    const float values[2] = {amax, amax};
    check(cudaMemcpy(amax_.as<float>(0), values, sizeof values, cudaMemcpyHostToDevice));
  }

  // Formats whose second-level scale is found first, by reading the matrix once more, or the inputs of a layer.
  void other_formats() {
    const auto layer = [&](int s) { return cuda::Swiglu{rows_, columns_, wide_.bf16(s)}; };
    for (const char* format : {"nvfp4", "four_over_six", "mxfp4", "hif4"}) {
      const std::string name = format;
      const bool exact = find_format(format).has_outer_scale();
      const double packed =
          0.5 + static_cast<double>(find_format(format).packed_scale_bytes()) / find_format(format).block;
      const auto both = [&](const std::vector<DeviceTask>& tasks, const auto& input) {
        if (exact) cuda::raise_outer_amax(input, amax_tasks(tasks), nullptr);
        cuda::quantize(input, tasks, nullptr);
      };
      const auto matrix = [&](int s) { return ConstMatrix{narrow_.bf16(s), DType::kBF16, rows_, columns_, columns_}; };
      const std::string with = exact ? " and amax" : "";
      report(name + " x" + with + ": rows BF16, columns packed, RHT-16", (exact ? 4 : 2) + 2 + packed,
             [&](int s) { both(activation(format, s), matrix(s)); });
      report(name + " dy" + with + ": rows and columns BF16, RHT-16, SR", (exact ? 4 : 2) + 4,
             [&](int s) { both(gradient(format, s), matrix(s)); });
      report("SwiGLU -> " + name + " x" + with, (exact ? 8 : 4) + 2 + packed,
             [&](int s) { both(activation(format, s), layer(s)); });
      report("SwiGLU, written, -> " + name + " x" + with, (exact ? 10 : 8) + 2 + packed, [&](int s) {
        cuda::compute(layer(s), result_.bf16(s), nullptr);
        both(activation(format, s), ConstMatrix{result_.bf16(s), DType::kBF16, rows_, columns_, columns_});
      });
    }
    set_amax(5);
  }

  void norm() {
    float* rstd = small_.as<float>(0) + rows_ * columns_ / 8;
    float* weight = rstd + rows_;
    float* dweight = weight + columns_;
    float* workspace = dweight + columns_;
    report("RMS statistics of a sum", 6, [&](int s) {
      cuda::rms_statistics({rows_, columns_, narrow_.bf16(s), other_.bf16(s), result_.bf16(s), rstd, 1e-5}, nullptr);
    });
    const auto layer = [&](int s) { return cuda::RmsNorm{rows_, columns_, narrow_.bf16(s), weight, rstd}; };
    const double alone = report("RMS norm", 4, [&](int s) { cuda::compute(layer(s), result_.bf16(s), nullptr); });
    fused(
        "RMS norm -> e1m2 x", 4.75, layer, [&](int s) { return activation("e1m2", s); }, x_us_, alone);
    fused(
        "RMS norm -> int4_p2 x in E4M3", 2 + kE4m3X, layer,
        [&](int s) { return eight_bit(Rounding::kNearest, s, true); }, e4m3_x_us_, alone);
    report("RMS norm backward with residual", 8, [&](int s) {
      cuda::RmsNormBackward p{rows_, columns_, narrow_.bf16(s), weight, rstd, other_.bf16(s), wide_.bf16(s)};
      p.dx = result_.bf16(s);
      p.dweight = dweight;
      p.workspace = workspace;
      cuda::rms_norm_backward(p, nullptr);
    });
  }

  void swiglu() {
    const auto forward = [&](int s) { return cuda::Swiglu{rows_, columns_, wide_.bf16(s)}; };
    const double alone = report("SwiGLU", 6, [&](int s) { cuda::compute(forward(s), result_.bf16(s), nullptr); });
    fused(
        "SwiGLU -> e1m2 x", 6.75, forward, [&](int s) { return activation("e1m2", s); }, x_us_, alone);
    fused(
        "SwiGLU -> int4_p2 x in E4M3", 4 + kE4m3X, forward,
        [&](int s) { return eight_bit(Rounding::kNearest, s, true); }, e4m3_x_us_, alone);
    const auto backward = [&](int s) { return cuda::SwigluBackward{rows_, columns_, wide_.bf16(s), narrow_.bf16(s)}; };
    const double back =
        report("SwiGLU backward", 10, [&](int s) { cuda::compute(backward(s), result_.bf16(s), nullptr); });
    const auto gradients = [&](int s) { return gradient("e1m2", s); };
    const double dh = quantize("e1m2 dy of twice the width", 12, wide_, 2 * columns_, gradients);
    fused("SwiGLU backward -> e1m2 dy of twice the width", 14, backward, gradients, dh, back);
    const auto e4m3 = [&](int s) { return eight_bit(Rounding::kStochastic, s, false); };
    const double e4m3_dh = quantize("int4_p2 dy in E4M3 of twice the width", 8, wide_, 2 * columns_, e4m3);
    fused("SwiGLU backward -> int4_p2 dy in E4M3", 10, backward, e4m3, e4m3_dh, back);
  }

  // Queries, keys and values of heads of 128, in tensors of their own.
  void rotary() {
    constexpr std::int64_t kSize = 128;
    const std::int64_t quarter = columns_ / kSize / 4;
    if (quarter == 0 || columns_ % kSize != 0) return;
    const auto layer = [&](int s) {
      cuda::RotaryBackward p{rows_, columns_, {}, other_.as<float>(s), std::gcd(rows_, std::int64_t{4096}), kSize};
      const Bf16* from = narrow_.bf16(s);
      for (int i = 0; i < 3; ++i) {
        const std::int64_t heads = i == 0 ? columns_ / kSize - 2 * quarter : quarter;
        p.parts[i] = {from, p.tokens * heads * kSize, heads * kSize, kSize, heads, i != 2};
        from += rows_ * heads * kSize;
      }
      return p;
    };
    const double alone =
        report("rotary backward", 4, [&](int s) { cuda::compute(layer(s), result_.bf16(s), nullptr); });
    fused(
        "rotary backward -> int4_p2 dy in E4M3", 4, layer,
        [&](int s) { return eight_bit(Rounding::kStochastic, s, false); }, e4m3_dy_us_, alone);
  }

  // FP32 master weights.
  void weight() {
    const auto layer = [&](int s) { return cuda::Rounded{rows_, columns_, wide_.as<float>(s)}; };
    const double alone = report("weight to BF16", 6, [&](int s) { cuda::compute(layer(s), result_.bf16(s), nullptr); });
    const auto both = [&](int s) { return eight_bit(Rounding::kNearest, s, false); };
    const double quantize_us = quantize("int4_p2 w: rows and columns E4M3, RHT-16", 4, narrow_, columns_, both);
    fused("weight -> int4_p2 w in E4M3", 6, layer, both, quantize_us, alone);
    for (const std::size_t i : {0, 1}) {
      const auto one = [&](int s) { return std::vector<DeviceTask>{both(s)[i]}; };
      fused(std::string("weight -> int4_p2 w in E4M3, ") + (i == 0 ? "rows" : "columns"), 5, layer, one, 0, 0);
    }
  }

  std::int64_t rows_, columns_;
  int repeats_;
  const std::function<void(const DeviceRow&)>& row_;
  Arrays wide_, narrow_, other_, result_, row_values_, column_values_;
  Arrays amax_;      // what second-level scales follow from
  Arrays small_;     // scales, and in the first what the norm needs
  double rate_ = 0;  // bytes a microsecond of the copy
  double x_us_ = 0, e4m3_x_us_ = 0, e4m3_dy_us_ = 0;
};

}  // namespace

void measure_device(std::int64_t rows, std::int64_t columns, int repeats,
                    const std::function<void(const DeviceRow&)>& row) {
  Table(rows, columns, repeats, row).run();
}

}  // namespace ufp4::bench
