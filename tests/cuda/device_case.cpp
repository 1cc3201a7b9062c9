#include "cuda/device_case.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "cuda/quantize.h"

namespace ufp4::testing {
namespace {

constexpr std::size_t kGuard = 256;  // bytes behind every array
constexpr std::uint8_t kPoison = 0xA5;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

bool has_window(const QuantizeSpec& spec) { return spec.format->rule == ScaleRule::kPow2Window; }

struct DeviceResults {
  DeviceBytes codes, scales, dequantized, global_scale, e4m3, packed_scales, seen, tensor_amax;
};

// Small and fast: a step of splitmix64.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Near enough to a normal variate: the sum of four uniform ones.
float normal(std::uint64_t bits) {
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>((bits >> (16 * i)) & 0xFFFFu) * 0x1p-16F - 0.5F;
  return sum * 1.7320508F + static_cast<float>(bits & 0xFFu) * 0x1p-20F;
}

float hostile_value(std::uint64_t patch, std::uint64_t bits) {
  const float x = normal(bits);
  const auto k = static_cast<int>(bits >> 58);  // 0..63
  switch (patch % 16) {
    case 0: return std::ldexp(x, static_cast<int>(patch >> 58) - 32);
    case 1: return k == 0 ? 14.0F : static_cast<float>(k % 29 - 14) * 0.5F;  // ties of grids up to 7
    case 2: return k == 0 ? 6.0F : static_cast<float>(k % 49 - 24) * 0.25F;  // ties of e2m1
    case 3: return k == 0 ? -7.0F : static_cast<float>(k % 29 - 14) * 0.5F;
    case 4: return std::ldexp(x, -120);
    case 5: return std::ldexp(x, -135);
    case 6: return k % 2 == 0 ? 0.0F : -0.0F;
    case 7: return k == 1 ? std::numeric_limits<float>::infinity() : x;
    case 8: return k == 2 ? std::numeric_limits<float>::quiet_NaN() : x;
    case 9: return x * 1e38F;
    case 10: return k < 2 ? x : 0.0F;
    case 11: return std::ldexp(x, k - 32);
    default: return x;
  }
}

void store(HostMatrix& m, std::int64_t index, float value) {
  if (m.dtype == DType::kF32) {
    std::memcpy(m.bytes.data() + 4 * index, &value, 4);
  } else {
    const std::uint16_t half = m.dtype == DType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
    std::memcpy(m.bytes.data() + 2 * index, &half, 2);
  }
}

// f(first, count) for parts of `rows`, by all cores; parts are multiples of 128 rows.
template <typename F>
void in_slabs(std::int64_t rows, F f) {
  const auto threads = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  const std::int64_t slab = std::max<std::int64_t>(128, (rows / threads + 127) / 128 * 128);
  std::vector<std::jthread> workers;
  for (std::int64_t first = 0; first < rows; first += slab) {
    workers.emplace_back([=] { f(first, std::min(slab, rows - first)); });
  }
}

template <typename Value>
HostMatrix make_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t padding, std::int64_t shift,
                       Value value) {
  HostMatrix m{dtype, rows, columns, columns + padding, shift, {}};
  m.bytes.assign(static_cast<std::size_t>(shift + rows * m.row_stride) * size_of(dtype), 0xFF);  // NaN between the rows
  in_slabs(rows, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t r = first; r < first + count; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) store(m, shift + r * m.row_stride + c, value(r, c));
    }
  });
  return m;
}

std::string first_difference(const char* what, const std::vector<std::uint8_t>& gpu,
                             const std::vector<std::uint8_t>& cpu, std::int64_t per_row, std::size_t width) {
  if (gpu == cpu || gpu.empty()) return {};
  for (std::size_t i = 0; i < cpu.size(); i += width) {
    std::uint32_t a = 0;
    std::uint32_t b = 0;
    std::memcpy(&a, gpu.data() + i, width);
    std::memcpy(&b, cpu.data() + i, width);
    if (a == b) continue;
    const auto at = static_cast<std::int64_t>(i / width);
    char text[160];
    std::snprintf(text, sizeof text, "%s differ first at [%lld, %lld]: GPU %x, CPU %x", what,
                  static_cast<long long>(at / per_row), static_cast<long long>(at % per_row), a, b);
    return text;
  }
  return std::string(what) + " differ in length";
}

}  // namespace

DeviceBytes::DeviceBytes(std::size_t size) : size_(size) {
  check(cudaMalloc(&data_, size + kGuard));
  check(cudaMemset(data_, kPoison, size + kGuard));
}

DeviceBytes::DeviceBytes(const std::vector<std::uint8_t>& bytes) : DeviceBytes(bytes.size()) {
  check(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
}

DeviceBytes::~DeviceBytes() { cudaFree(data_); }

std::vector<std::uint8_t> DeviceBytes::fetch() const {
  std::vector<std::uint8_t> bytes(size_ + kGuard);
  check(cudaMemcpy(bytes.data(), data_, bytes.size(), cudaMemcpyDeviceToHost));
  if (std::any_of(bytes.begin() + static_cast<std::ptrdiff_t>(size_), bytes.end(),
                  [](auto b) { return b != kPoison; })) {
    throw std::runtime_error("written beyond an array of " + std::to_string(size_) + " bytes");
  }
  bytes.resize(size_);
  return bytes;
}

ConstMatrix HostMatrix::view(const void* data) const {
  const auto* first = static_cast<const std::uint8_t*>(data) + shift * static_cast<std::int64_t>(size_of(dtype));
  return {first, dtype, rows, columns, row_stride};
}

HostMatrix hostile_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t padding,
                          std::int64_t shift, std::uint64_t seed) {
  return make_matrix(dtype, rows, columns, padding, shift, [seed](std::int64_t r, std::int64_t c) {
    const auto row = static_cast<std::uint64_t>(r);
    const auto column = static_cast<std::uint64_t>(c);
    return hostile_value(mix(seed + (row / 16 << 32) + column / 16), mix(seed ^ (row << 32) ^ column));
  });
}

HostMatrix normal_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  return make_matrix(dtype, rows, columns, 0, 0, [seed](std::int64_t r, std::int64_t c) {
    return normal(mix(seed ^ (static_cast<std::uint64_t>(r) << 32) ^ static_cast<std::uint64_t>(c)));
  });
}

HostMatrix transposed(const HostMatrix& in) {
  HostMatrix turned{in.dtype, in.columns, in.rows, in.rows, 0, {}};
  const auto element = static_cast<std::int64_t>(size_of(in.dtype));
  turned.bytes.resize(static_cast<std::size_t>(in.rows * in.columns * element));
  const auto* from = static_cast<const std::uint8_t*>(in.view().data);
  in_slabs(in.columns, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t r = 0; r < in.rows; ++r) {
      for (std::int64_t c = first; c < first + count; ++c) {
        std::memcpy(turned.bytes.data() + (c * in.rows + r) * element, from + (r * in.row_stride + c) * element,
                    size_of(in.dtype));
      }
    }
  });
  return turned;
}

Results quantize_on_cpu(const HostMatrix& in, const QuantizeSpec& spec, std::optional<DType> dequantized) {
  if (spec.axis == Axis::kColumn) {
    QuantizeSpec row = spec;
    row.axis = Axis::kRow;
    return quantize_on_cpu(transposed(in), row, dequantized);
  }
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
  const auto size = static_cast<std::size_t>(shape.rows * shape.columns);
  const auto block = static_cast<std::size_t>(spec.block_size());
  const std::size_t value_bytes = dequantized ? size_of(*dequantized) : 0;
  Results out{std::vector<std::uint8_t>(size / 2),
              std::vector<std::uint8_t>(size / block * 4),
              std::vector<std::uint8_t>(size * value_bytes),
              1,
              std::vector<std::uint8_t>(has_window(spec) ? size : 0),
              std::vector<std::uint8_t>(has_window(spec) ? size / block : 0)};
  std::mutex mutex;  // of what the slabs raise
  const ConstMatrix whole = in.view();
  const std::int64_t row_bytes = in.row_stride * static_cast<std::int64_t>(size_of(in.dtype));
  in_slabs(in.rows, [&](std::int64_t first, std::int64_t count) {
    ConstMatrix part = whole;
    part.data = static_cast<const std::uint8_t*>(whole.data) + first * row_bytes;
    part.rows = count;
    QuantizeTask task{spec, {}};
    task.spec.random.row_offset += static_cast<std::uint32_t>(first);
    const auto start = static_cast<std::size_t>(first * shape.columns);
    task.out.codes = out.codes.data() + start / 2;
    task.out.scales = reinterpret_cast<float*>(out.scales.data()) + start / block;
    if (dequantized) {
      task.out.dequantized = out.dequantized.data() + start * value_bytes;
      task.out.dequantized_dtype = *dequantized;
    }
    float amax = 0;
    float global_scale = 1;
    std::uint32_t clipped = 0;
    task.out.global_scale = &global_scale;
    if (has_window(spec)) {
      task.out.e4m3 = out.e4m3.data() + start;
      task.out.packed_scales = out.packed_scales.data() + start / block;
      task.out.amax = &amax;
      task.out.clipped = &clipped;
    }
    default_backend().quantize(part, {&task, 1});
    const std::lock_guard lock(mutex);
    out.global_scale = global_scale;
    out.amax = std::max(out.amax, amax);
    out.clipped += clipped;
  });
  return out;
}

std::vector<Results> quantize_on_gpu(const HostMatrix& in, const std::vector<QuantizeSpec>& specs,
                                     std::optional<DType> dequantized, const std::vector<Wanted>& wanted) {
  const DeviceBytes input(in.bytes);
  std::vector<std::unique_ptr<DeviceResults>> device;
  std::vector<QuantizeTask> tasks;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const QuantizeSpec& spec = specs[i];
    const auto want = [&](Wanted result) { return wanted.empty() || wanted[i] == Wanted::kAll || wanted[i] == result; };
    const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
    const auto size = static_cast<std::size_t>(shape.rows * shape.columns);
    const auto block = static_cast<std::size_t>(spec.block_size());
    const bool window = has_window(spec);
    std::vector<std::uint8_t> tensor_amax(4);
    std::memcpy(tensor_amax.data(), &spec.tensor_amax, 4);
    const bool packed = want(Wanted::kPacked);
    const bool values = dequantized && want(Wanted::kValues);
    const bool e4m3 = window && want(Wanted::kE4m3);
    const bool scales = packed && (!window || want(Wanted::kValues));  // else their bytes
    device.emplace_back(
        new DeviceResults{DeviceBytes(packed ? size / 2 : 0), DeviceBytes(scales ? size / block * 4 : 0),
                          DeviceBytes(values ? size * size_of(*dequantized) : 0), DeviceBytes(4),
                          DeviceBytes(e4m3 ? size : 0), DeviceBytes(packed && window ? size / block : 0),
                          DeviceBytes(std::vector<std::uint8_t>(8)), DeviceBytes(tensor_amax)});
    const DeviceResults& d = *device.back();
    QuantizeTask& task = tasks.emplace_back(QuantizeTask{spec, {}});
    if (packed) task.out.codes = d.codes.as<std::uint8_t>();
    if (scales) task.out.scales = d.scales.as<float>();
    if (values) task.out.dequantized = d.dequantized.data();
    task.out.dequantized_dtype = dequantized.value_or(DType::kBF16);
    task.out.global_scale = d.global_scale.as<float>();
    if (!window) continue;
    if (e4m3) task.out.e4m3 = d.e4m3.as<std::uint8_t>();
    if (packed) task.out.packed_scales = d.packed_scales.as<std::uint8_t>();
    task.out.amax = d.seen.as<float>();
    task.out.clipped = d.seen.as<std::uint32_t>() + 1;
    if (spec.rounding == Rounding::kStochastic) task.spec.outer_amax = d.tensor_amax.as<float>();
  }
  cuda::quantize(in.view(input.data()), tasks, nullptr);
  check(cudaDeviceSynchronize());
  std::vector<Results> results;
  for (const auto& d : device) {
    Results& r =
        results.emplace_back(Results{d->codes.fetch(), d->scales.fetch(), d->dequantized.fetch(),
                                     d->global_scale.fetch_as<float>()[0], d->e4m3.fetch(), d->packed_scales.fetch()});
    r.amax = d->seen.fetch_as<float>()[0];
    r.clipped = d->seen.fetch_as<std::uint32_t>()[1];
  }
  return results;
}

std::string describe(const HostMatrix& in, const QuantizeSpec& spec) {
  return std::string(name_of(in.dtype)) + " [" + std::to_string(in.rows) + ", " + std::to_string(in.columns) +
         "] stride " + std::to_string(in.row_stride) + " shift " + std::to_string(in.shift) + ", " +
         std::string(spec.format->name) + (spec.axis == Axis::kRow ? " rows" : " columns") +
         (spec.rounding == Rounding::kNearest ? " rtne" : " sr") + " block " + std::to_string(spec.block_size()) +
         " hadamard " + std::to_string(spec.hadamard.size) + " offsets " + std::to_string(spec.random.row_offset) +
         ", " + std::to_string(spec.random.column_offset);
}

std::string difference(const Results& gpu, const Results& cpu, const HostMatrix& in, const QuantizeSpec& spec) {
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
  std::string text = first_difference("scales", gpu.scales, cpu.scales, shape.scales_per_row, 4);
  if (text.empty()) text = first_difference("codes", gpu.codes, cpu.codes, shape.codes_per_row(), 1);
  if (text.empty() && !cpu.dequantized.empty()) {
    const std::size_t width = cpu.dequantized.size() / static_cast<std::size_t>(shape.rows * shape.columns);
    text = first_difference("values", gpu.dequantized, cpu.dequantized, shape.columns, width);
  }
  if (text.empty()) text = first_difference("E4M3 values", gpu.e4m3, cpu.e4m3, shape.columns, 1);
  if (text.empty())
    text = first_difference("scale bytes", gpu.packed_scales, cpu.packed_scales, shape.scales_per_row, 1);
  if (text.empty() && gpu.global_scale != cpu.global_scale) {
    text = "global scale " + std::to_string(gpu.global_scale) + ", CPU " + std::to_string(cpu.global_scale);
  }
  if (text.empty() && gpu.amax != cpu.amax) {
    text = "amax " + std::to_string(gpu.amax) + ", CPU " + std::to_string(cpu.amax);
  }
  if (text.empty() && gpu.clipped != cpu.clipped) {
    text = std::to_string(gpu.clipped) + " blocks clipped, CPU " + std::to_string(cpu.clipped);
  }
  return text.empty() ? text : describe(in, spec) + ": " + text;
}

}  // namespace ufp4::testing
