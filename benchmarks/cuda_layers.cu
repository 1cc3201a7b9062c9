// What a training step quantizes, fused with the layer that makes it and as the sum of the parts: prints a table.
// Usage: cuda_layers [rows width]
#include <cstdlib>

#include "cuda/layers.h"
#include "cuda/quantize.h"
#include "device_timing.h"

namespace {

using namespace ufp4;
using namespace ufp4::bench;
using cuda::Bf16;

// Bytes of values of about unit size: BF16 patterns with a small exponent range, or as FP32 halves of such.
__global__ void fill(std::uint16_t* to, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    float sum = 0;
    for (int k = 0; k < 8; ++k) sum += static_cast<float>((x >> (8 * k)) & 0xFF) / 256 - 0.5F;
    to[i] = static_cast<std::uint16_t>(__float_as_uint(sum) >> 16);
  }
}

template <typename T>
T* filled(std::int64_t count) {
  T* data = device_array<T>(count);
  fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(data), count * static_cast<std::int64_t>(sizeof(T) / 2));
  return data;
}

// The two quantizations of an activation (values of the rows, packed columns) or of a gradient (values of both).
struct Pair {
  QuantizeTask tasks[2];
  double bytes;  // written an element
};

Pair activation_pair(Bf16* row, std::uint8_t* codes, float* scales) {
  const QuantizeSpec spec{&find_format("e1m2"), 0, Axis::kRow, Rounding::kNearest, make_hadamard(16, 1), {}};
  Pair pair{{{spec, {}}, {spec, {}}}, 2.75};
  pair.tasks[0].out.dequantized = row;
  pair.tasks[1].spec.axis = Axis::kColumn;
  pair.tasks[1].out.codes = codes;
  pair.tasks[1].out.scales = scales;
  return pair;
}

Pair gradient_pair(Bf16* row, Bf16* column) {
  const QuantizeSpec spec{&find_format("e1m2"), 0, Axis::kRow, Rounding::kStochastic, make_hadamard(16, 1), {1, 2, 3}};
  Pair pair{{{spec, {}}, {spec, {}}}, 4};
  pair.tasks[0].out.dequantized = row;
  pair.tasks[1].spec.axis = Axis::kColumn;
  pair.tasks[1].spec.random.stream = 4;
  pair.tasks[1].out.dequantized = column;
  return pair;
}

void print_table(std::int64_t rows, std::int64_t width) {
  const std::int64_t n = rows * width;
  std::printf("\n[%lld, %lld]; the last figure is the time against the sum of the parts\n",
              static_cast<long long>(rows), static_cast<long long>(width));
  constexpr int kSets = 2;
  std::vector<void*> wide, narrow, other, result, row, column;
  std::vector<float*> scales;
  for (int i = 0; i < kSets; ++i) {
    wide.push_back(filled<Bf16>(2 * n));
    narrow.push_back(filled<Bf16>(n));
    other.push_back(filled<Bf16>(n));
    result.push_back(device_array<Bf16>(2 * n));
    row.push_back(device_array<Bf16>(2 * n));
    column.push_back(device_array<Bf16>(2 * n));
    scales.push_back(device_array<float>(n / 8));
  }
  float* weight = filled<float>(width);
  float* rstd = filled<float>(rows);
  float* dweight = device_array<float>(width);
  float* workspace = device_array<float>(cuda::rms_norm_backward_workspace(rows, width));
  const auto bf16 = [](const std::vector<void*>& arrays, int s) {
    return static_cast<Bf16*>(arrays[static_cast<std::size_t>(s)]);
  };
  const double elements = static_cast<double>(n);
  const double rate = copy_rate(narrow, result, n * 2, 1);
  const auto report = [&](const char* name, double bytes, double base, const std::function<void(int)>& run) {
    const double us = measure(kSets, 1, run);
    print_row(name, elements * bytes, us, rate, base);
    return us;
  };
  const auto x_pair = [&](int s) {
    return activation_pair(bf16(row, s), reinterpret_cast<std::uint8_t*>(bf16(column, s)),
                           scales[static_cast<std::size_t>(s)]);
  };
  const auto dy_pair = [&](int s) { return gradient_pair(bf16(row, s), bf16(column, s)); };
  const auto matrix = [&](const std::vector<void*>& arrays, int s, std::int64_t columns) {
    return ConstMatrix{bf16(arrays, s), DType::kBF16, rows, columns, columns};
  };
  const double x_us = report("x: rows BF16, columns packed", 4.75, 0,
                             [&](int s) { cuda::quantize(matrix(narrow, s, width), x_pair(s).tasks, nullptr); });
  report("dy: rows and columns BF16, SR", 6, 0,
         [&](int s) { cuda::quantize(matrix(narrow, s, width), dy_pair(s).tasks, nullptr); });
  const double dh_us = report("dy of twice the width", 12, 0,
                              [&](int s) { cuda::quantize(matrix(wide, s, 2 * width), dy_pair(s).tasks, nullptr); });
  report("RMS statistics of a sum", 6, 0, [&](int s) {
    cuda::rms_statistics({rows, width, bf16(narrow, s), bf16(other, s), bf16(result, s), rstd, 1e-5}, nullptr);
  });
  const auto norm = [&](int s) { return cuda::RmsNorm{rows, width, bf16(narrow, s), weight, rstd}; };
  const double norm_us = report("RMS norm", 4, 0, [&](int s) { cuda::compute(norm(s), bf16(result, s), nullptr); });
  report("RMS norm -> x", 4.75, norm_us + x_us,
         [&](int s) { cuda::quantize(norm(s), x_pair(s).tasks, nullptr, nullptr); });
  const auto swiglu = [&](int s) { return cuda::Swiglu{rows, width, bf16(wide, s)}; };
  const double swiglu_us = report("SwiGLU", 6, 0, [&](int s) { cuda::compute(swiglu(s), bf16(result, s), nullptr); });
  report("SwiGLU -> x", 6.75, swiglu_us + x_us,
         [&](int s) { cuda::quantize(swiglu(s), x_pair(s).tasks, nullptr, nullptr); });
  const auto back = [&](int s) { return cuda::SwigluBackward{rows, width, bf16(wide, s), bf16(narrow, s)}; };
  const double back_us =
      report("SwiGLU backward", 10, 0, [&](int s) { cuda::compute(back(s), bf16(result, s), nullptr); });
  report("SwiGLU backward -> dy", 14, back_us + dh_us,
         [&](int s) { cuda::quantize(back(s), dy_pair(s).tasks, nullptr, nullptr); });
  report("RMS norm backward with residual", 8, 0, [&](int s) {
    cuda::rms_norm_backward({rows, width, bf16(narrow, s), weight, rstd, bf16(other, s), bf16(wide, s), bf16(result, s),
                             dweight, true, workspace},
                            nullptr);
  });
  report("unpack of the stash", 2.75, 0, [&](int s) {
    cuda::dequantize({&find_format("e1m2"), 0, width, rows, reinterpret_cast<const std::uint8_t*>(bf16(column, s)),
                      scales[static_cast<std::size_t>(s)]},
                     bf16(result, s), DType::kBF16, nullptr);
  });
  check(cudaDeviceSynchronize());
  for (const auto& arrays : {wide, narrow, other, result, row, column}) {
    for (void* p : arrays) cudaFree(p);
  }
  for (float* p : scales) cudaFree(p);
  for (float* p : {weight, rstd, dweight, workspace}) cudaFree(p);
}

}  // namespace

int main(int argc, char** argv) try {
  const ufp4::cuda::DeviceStatus status = ufp4::cuda::device_status();
  if (!status.usable) {
    std::fprintf(stderr, "cuda_layers: %s\n", status.sentence.c_str());
    return 1;
  }
  std::printf("%s\n", status.sentence.c_str());
  if (argc > 2) {
    print_table(std::atoll(argv[1]), std::atoll(argv[2]));
  } else {
    print_table(16384, 2048);
    print_table(16384, 6144);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "cuda_layers: %s\n", error.what());
  return 1;
}
