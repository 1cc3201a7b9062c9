// The CUDA kernels against the copy rate of the same device in the same run: prints the table of docs/performance.md.
// Usage: cuda_kernels [rows columns], or cuda_kernels int4_i4 for that format alone
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/quantize.h"
#include "device_timing.h"
#include "ufp4/format.h"

namespace {

using namespace ufp4;
using namespace ufp4::bench;

// Roughly normal values.
template <typename T>
__global__ void fill_kernel(T* to, std::int64_t count, DType dtype) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const std::uint64_t x = hash_bits(i);
    const float sum = roughly_normal(x);
    if constexpr (sizeof(T) == 4) {
      to[i] = sum;
    } else {
      to[i] = static_cast<T>(dtype == DType::kBF16 ? __float_as_uint(sum) >> 16 : 0x3000u + (x & 0x8FFFu));
    }
  }
}

// Inputs and results of a matrix, enough sets that no cache holds what a later run reads.
struct Arrays {
  std::int64_t rows, columns;
  int sets;
  std::vector<void*> inputs;  // room for FP32
  std::vector<void*> outputs[2];
  std::vector<std::uint8_t*> codes[2];
  std::vector<float*> scales[2];
  std::vector<float*> amax[2];
  std::vector<float*> outer[2];

  Arrays(std::int64_t r, std::int64_t c, int n) : rows(r), columns(c), sets(n) {
    for (int i = 0; i < n; ++i) {
      inputs.push_back(device_array<float>(r * c));
      for (int axis = 0; axis < 2; ++axis) {
        outputs[axis].push_back(device_array<float>(r * c));
        codes[axis].push_back(device_array<std::uint8_t>(r * c / 2));
        scales[axis].push_back(device_array<float>(r * c / 16));
        amax[axis].push_back(device_array<float>(r * c / 128 + r + c));
        outer[axis].push_back(device_array<float>(r * c / 128 + r + c));
      }
    }
    fill(DType::kBF16);
  }
  void fill(DType dtype) {
    for (void* input : inputs) {
      if (dtype == DType::kF32) {
        fill_kernel<<<1024, 256>>>(static_cast<float*>(input), rows * columns, dtype);
      } else {
        fill_kernel<<<1024, 256>>>(static_cast<std::uint16_t*>(input), rows * columns, dtype);
      }
    }
    check(cudaDeviceSynchronize());
  }
};

struct Variant {
  const char* format = "e1m2";
  const char* axes = "row";  // "row", "column", "both"
  Rounding rounding = Rounding::kNearest;
  int hadamard = 0;
  bool packed = true;
  bool dequantized = false;
  DType input = DType::kBF16;
  int block = 0;  // the format's own
  OuterScale each = OuterScale::kOwn;
  bool int8 = false;

  const BlockFormat& of() const { return find_format(format); }
  int block_size() const { return block == 0 ? of().block : block; }
  OperandSpec spec() const { return {&of(), block, rounding, make_hadamard(hadamard, 1), {each}}; }
  bool wants(Axis axis) const { return std::string(axes) != (axis == Axis::kRow ? "column" : "row"); }
  bool finds_outer(Axis axis) const { return cuda::finds_outer(input, {{spec(), {axis}}}); }
  // Whether a pass that finds the amax belongs to it.
  bool measured() const {
    const auto apart = [&](Axis axis) { return wants(axis) && !finds_outer(axis); };
    return of().has_outer_scale() && (apart(Axis::kRow) || apart(Axis::kColumn));
  }
  std::string name() const {
    return std::string("quantize ") + format + " " + axes + (rounding == Rounding::kNearest ? " rtne" : " sr") +
           (hadamard == 0 ? "" : " rht" + std::to_string(hadamard)) + (packed ? " packed" : "") +
           (int8 ? " int8" : "") + (dequantized ? " bf16" : "") + " from " + std::string(name_of(input)) +
           (block == 0 ? "" : " block " + std::to_string(block)) +
           (each == OuterScale::kOwn ? "" : " outer " + std::string(name_of(each))) + (measured() ? " + amax" : "");
  }
  int operands() const { return std::string(axes) == "both" ? 2 : 1; }
  double bytes(double elements) const {
    const double scale = static_cast<double>(of().packed_scale_bytes()) / block_size();
    const double out = (packed ? 0.5 + scale : 0) + (dequantized ? 2 : 0) + (int8 ? 1 : 0);
    return elements * (static_cast<double>(size_of(input)) * (measured() ? 2 : 1) + operands() * out);
  }
  void run(const Arrays& a, int set) const {
    const auto at = static_cast<std::size_t>(set);
    std::vector<DeviceTask> tasks;
    std::vector<cuda::AmaxTask> amax;
    for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
      if (!wants(axis)) continue;
      const int k = axis == Axis::kRow ? 0 : 1;
      QuantizeTask task{spec(), {axis, 1, 2, 3}, {}, nullptr};
      if (packed) task.out.codes = a.codes[k][at];
      if (packed) task.out.packed_scales = reinterpret_cast<std::uint8_t*>(a.scales[k][at]);
      if (dequantized) task.out.dequantized = a.outputs[k][at];
      if (int8) task.out.int8 = static_cast<std::int8_t*>(a.outputs[k][at]);
      if (of().outer_of_extremes()) task.out.outer_scales = a.outer[k][at];
      if (of().has_outer_scale() && !finds_outer(axis)) {
        task.outer_amax = a.amax[k][at];
        amax.push_back({task.spec, task.place, a.amax[k][at]});
      }
      tasks.push_back({task, {}, nullptr});
    }
    const ConstMatrix in{a.inputs[at], input, a.rows, a.columns, a.columns};
    for (const cuda::AmaxTask& task : amax) {
      const QuantizedShape shape = quantized_shape(a.rows, a.columns, task.spec, task.place.axis);
      const OuterShape outer = outer_shape(shape, task.spec.outer_each());
      check(cudaMemsetAsync(task.amax, 0, static_cast<std::size_t>(outer.rows * outer.columns) * 4));
    }
    if (!amax.empty()) cuda::raise_outer_amax(in, amax, nullptr);
    cuda::quantize(in, tasks, nullptr);
  }
};

std::vector<Variant> standard_variants() {
  std::vector<Variant> list;
  constexpr auto kSr = Rounding::kStochastic;
  for (const char* axes : {"row", "column", "both"}) {
    for (const bool dequantized : {false, true}) {
      Variant v{"e1m2", axes, Rounding::kNearest, 0, !dequantized, dequantized};
      list.push_back(v);
      v.hadamard = 16;
      list.push_back(v);
      v.rounding = kSr;
      list.push_back(v);
      v.hadamard = 0;
      list.push_back(v);
    }
  }
  for (const char* format : {"e2m1", "int4_full"}) {
    for (const char* axes : {"row", "both"}) {
      list.push_back({format, axes});
      list.push_back({format, axes, Rounding::kNearest, 16});
      list.push_back({format, axes, kSr, 16});
    }
  }
  list.push_back({"e1m2", "row", Rounding::kNearest, 0, true, true});
  list.push_back({"e1m2", "row", Rounding::kNearest, 128});
  list.push_back({"e1m2", "column", Rounding::kNearest, 128});
  list.push_back({"e1m2", "row", Rounding::kNearest, 0, true, false, DType::kBF16, 128});
  for (const DType input : {DType::kF16, DType::kF32}) {
    for (const char* axes : {"row", "both"}) {
      list.push_back({"e1m2", axes, Rounding::kNearest, 0, true, false, input});
      list.push_back({"e1m2", axes, Rounding::kNearest, 16, true, false, input});
    }
  }
  return list;
}

// Formats whose scales are not FP32, with the pass that finds their amax.
std::vector<Variant> other_formats() {
  std::vector<Variant> list;
  for (const char* format : {"nvfp4", "nvint4", "mxfp4", "mxint4", "four_over_six", "mixfp4", "hif4", "int4_p2"}) {
    for (const char* axes : {"row", "column", "both"}) {
      list.push_back({format, axes, Rounding::kNearest, 16});
      list.push_back({format, axes, Rounding::kStochastic, 16});
    }
    list.push_back({format, "both", Rounding::kNearest, 16, false, true});
    list.push_back({format, "both", Rounding::kStochastic, 16, false, true});
  }
  for (const OuterScale each : {OuterScale::kRow, OuterScale::k1x128, OuterScale::k128x128}) {
    for (const char* axes : {"row", "both"}) {
      list.push_back({"int4_p2", axes, Rounding::kNearest, 16, true, false, DType::kBF16, 0, each});
    }
  }
  return list;
}

// int4_i4, as INT8 products take it, with the stash of the backward pass, and emulated.
std::vector<Variant> integer_formats() {
  std::vector<Variant> list;
  const auto add = [&](const char* axes, Rounding rounding, OuterScale each, DType input = DType::kBF16) {
    list.push_back({"int4_i4", axes, rounding, 16, false, false, input, 0, each, true});
  };
  for (const char* axes : {"row", "column", "both"}) {
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      add(axes, rounding, OuterScale::kOwn);
      list.push_back({"int4_i4", axes, rounding, 16});
    }
  }
  for (const OuterScale each : {OuterScale::k1x128, OuterScale::k1x256, OuterScale::k1x1024, OuterScale::kRow}) {
    for (const char* axes : {"row", "both"}) {
      add(axes, Rounding::kNearest, each);
      add(axes, Rounding::kStochastic, each);
    }
  }
  add("both", Rounding::kNearest, OuterScale::kOwn, DType::kF32);
  for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
    list.push_back({"int4_i4", "both", rounding, 0, false, false, DType::kBF16, 0, OuterScale::kOwn, true});
    list.push_back({"int4_i4", "both", rounding, 16, false, true});
  }
  return list;
}

// The pass that finds an amax, alone.
void print_amax(const Arrays& a, int sets, int inner, double rate) {
  for (const char* axes : {"row", "column", "both"}) {
    const double us = measure(sets, inner, [&](int s) {
      const auto at = static_cast<std::size_t>(s);
      std::vector<cuda::AmaxTask> tasks;
      for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
        if (std::string(axes) == (axis == Axis::kRow ? "column" : "row")) continue;
        tasks.push_back({{&find_format("nvfp4"), 0, Rounding::kNearest, make_hadamard(16, 1)},
                         {axis},
                         a.amax[axis == Axis::kRow ? 0 : 1][at]});
      }
      cuda::raise_outer_amax({a.inputs[at], DType::kBF16, a.rows, a.columns, a.columns}, tasks, nullptr);
    });
    print_row(std::string("amax of a tensor, ") + axes + " rht16", static_cast<double>(a.rows * a.columns) * 2, us,
              rate, 0);
  }
}

void print_table(std::int64_t rows, std::int64_t columns, int sets, int inner, const std::vector<Variant>& variants) {
  Arrays a(rows, columns, sets);
  const double elements = static_cast<double>(rows) * static_cast<double>(columns);
  const auto copied = static_cast<std::int64_t>(rows * columns * 2);
  std::printf("\n[%lld, %lld]; the last figure is the time against the same case without transform, rtne\n",
              static_cast<long long>(rows), static_cast<long long>(columns));
  const double rate = copy_rate(a.inputs, a.outputs[0], copied, inner);
  double base = 0;
  DType filled = DType::kBF16;
  for (const Variant& v : variants) {
    if (v.input != filled) a.fill(filled = v.input);
    const double us = measure(sets, inner, [&](int s) { v.run(a, s); });
    if (v.hadamard == 0 && v.rounding == Rounding::kNearest) base = us;
    print_row(v.name(), v.bytes(elements), us, rate, base);
  }
  if (filled != DType::kBF16) a.fill(DType::kBF16);
  print_amax(a, sets, inner, rate);
  const double us = measure(sets, inner, [&](int s) {
    const auto set = static_cast<std::size_t>(s);
    cuda::dequantize({&find_format("e1m2"), 0, rows, columns, a.codes[0][set], a.scales[0][set]}, a.outputs[0][set],
                     DType::kBF16, nullptr);
  });
  print_row("dequantize e1m2 to BF16", elements * 2.75, us, rate, 0);
  check(cudaDeviceSynchronize());
  for (void* p : a.inputs) cudaFree(p);
  for (int k = 0; k < 2; ++k) {
    for (void* p : a.outputs[k]) cudaFree(p);
    for (void* p : a.codes[k]) cudaFree(p);
    for (void* p : a.scales[k]) cudaFree(p);
    for (void* p : a.amax[k]) cudaFree(p);
    for (void* p : a.outer[k]) cudaFree(p);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const ufp4::cuda::DeviceStatus status = ufp4::cuda::device_status();
  if (!status.usable) {
    std::fprintf(stderr, "cuda_kernels: %s\n", status.sentence.c_str());
    return 1;
  }
  const bool integers = argc > 1 && std::string(argv[1]) == "int4_i4";
  const bool sized = !integers && argc > 2;
  const std::int64_t rows = sized ? std::atoll(argv[1]) : 16384;
  const std::int64_t columns = sized ? std::atoll(argv[2]) : 8192;
  std::printf("%s\n", status.sentence.c_str());
  print_table(rows, columns, 2, 1, integer_formats());
  if (integers) return 0;
  print_table(rows, columns, 2, 1, standard_variants());
  print_table(rows, columns, 2, 1, other_formats());
  print_table(1024, 1024, 64, 64,
              {{"e1m2", "row"},
               {"e1m2", "row", Rounding::kNearest, 16},
               {"e1m2", "row", Rounding::kStochastic, 16},
               {"e1m2", "column"},
               {"e1m2", "both", Rounding::kNearest, 16},
               {"e1m2", "both", Rounding::kStochastic, 16}});
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "cuda_kernels: %s\n", error.what());
  return 1;
}
