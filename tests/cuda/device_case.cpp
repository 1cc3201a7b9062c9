#include "cuda/device_case.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "cuda/quantize.h"
#include "numerics/scale_rules.h"

namespace ufp4::testing {
namespace {

constexpr std::size_t kGuard = 256;  // bytes behind every array
constexpr std::uint8_t kPoison = 0xA5;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

struct DeviceResults {
  DeviceBytes codes, scales, dequantized, exact, packed_scales, selectors, outer_scales, outer_amax;
  DeviceBytes seen;  // amax and clipped
  DeviceBytes rows, moved;
};

template <typename T>
std::vector<std::uint8_t> bytes_of(const std::vector<T>& values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// The fastest backend, which tests/backend holds to the scalar reference for all formats of the library; for others the
// reference itself.
const Backend& backend_for(const BlockFormat& format) {
  const bool listed = std::any_of(formats().begin(), formats().end(), [&](const auto& own) { return &own == &format; });
  return listed ? default_backend() : find_backend("scalar");
}

// Level * scale goes there, in the type that has it exactly.
void write_exact(Quantized& out, const BlockFormat& format, void* to) {
  if (format.exact == ExactValue::kE4m3) out.e4m3 = static_cast<std::uint8_t*>(to);
  if (format.exact == ExactValue::kInt8) out.int8 = static_cast<std::int8_t*>(to);
}

// How long the arrays of an operand are.
struct Sizes {
  QuantizedShape shape;
  std::size_t elements, blocks, selectors, packed, outer;

  Sizes(const HostMatrix& in, const Request& request)
      : shape(quantized_shape(in.rows, in.columns, request.spec, request.place.axis)) {
    const BlockFormat& format = *request.spec.format;
    const auto size = [](std::int64_t x) { return static_cast<std::size_t>(x); };
    elements = size(shape.rows * shape.columns);
    blocks = elements / size(request.spec.block_size());
    selectors = format.selector_block == 0 ? 0 : elements / size(format.selector_block);
    packed = blocks * size(format.packed_scale_bytes());
    const OuterShape outer_of = outer_shape(shape, request.spec.outer_each());
    outer = size(outer_of.rows * outer_of.columns);
  }
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

Results quantize_on_cpu(const HostMatrix& in, const Request& request, std::optional<DType> dequantized) {
  const OperandSpec& spec = request.spec;
  const BlockFormat& format = *spec.format;
  const Backend& backend = backend_for(format);
  const Sizes sizes(in, request);
  Results out;
  out.codes.resize(sizes.elements / 2);
  out.scales.resize(sizes.blocks * 4);
  out.dequantized.resize(dequantized ? sizes.elements * size_of(*dequantized) : 0);
  out.exact.resize(format.exact != ExactValue::kNone ? sizes.elements : 0);
  out.packed_scales.resize(sizes.packed);
  out.selectors.resize(sizes.selectors);
  out.outer_scales.resize(sizes.outer * 4);

  QuantizeTask task{spec, request.place, {}, nullptr};
  Place& place = task.place;
  if (request.moved) {
    place.step = request.moved->step;
    place.stream += kStreamsPerLayer * request.moved->layer;
    (place.axis == Axis::kRow ? place.row_offset : place.column_offset) += request.moved->first_row;
  }
  if (!request.rows.empty()) place.row_numbers = request.rows.data();
  task.out.codes = out.codes.data();
  task.out.scales = reinterpret_cast<float*>(out.scales.data());
  if (dequantized) {
    task.out.dequantized = out.dequantized.data();
    task.out.dequantized_dtype = *dequantized;
  }
  if (!out.exact.empty()) write_exact(task.out, format, out.exact.data());
  task.out.packed_scales = out.packed_scales.data();
  if (!out.selectors.empty()) task.out.selectors = out.selectors.data();
  task.out.outer_scales = reinterpret_cast<float*>(out.outer_scales.data());

  std::mutex mutex;  // of what the slabs raise
  const ConstMatrix whole = in.view();
  std::vector<float> amax(format.has_outer_scale() ? sizes.outer : 0, request.amax.value_or(0));
  if (!amax.empty() && !request.amax) {
    in_slabs(in.rows, [&](std::int64_t first, std::int64_t count) {
      std::vector<float> own(amax.size());
      backend.raise_outer_amax(whole, spec, place, {first, first + count}, own.data());
      const std::lock_guard lock(mutex);
      std::transform(own.begin(), own.end(), amax.begin(), amax.begin(),
                     [](float a, float b) { return reference::raised(a, b); });
    });
  }
  if (!amax.empty()) {
    task.outer_amax = amax.data();
    out.outer_amax = bytes_of(amax);
  }
  in_slabs(in.rows, [&](std::int64_t first, std::int64_t count) {
    QuantizeTask own = task;
    float seen = 0;
    std::uint32_t clipped = 0;
    if (format.has_window()) {
      own.out.amax = &seen;
      own.out.clipped = &clipped;
    }
    backend.quantize_rows(whole, {&own, 1}, {first, first + count});
    const std::lock_guard lock(mutex);
    out.amax = std::max(out.amax, seen);
    out.clipped += clipped;
  });
  return out;
}

std::vector<Results> quantize_on_gpu(const HostMatrix& in, const std::vector<Request>& requests,
                                     std::optional<DType> dequantized, const std::vector<Wanted>& wanted) {
  const DeviceBytes input(in.bytes);
  std::vector<std::unique_ptr<DeviceResults>> device;
  std::vector<DeviceTask> tasks;
  std::vector<cuda::AmaxTask> amax_tasks;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    const BlockFormat& format = *request.spec.format;
    const Sizes sizes(in, request);
    const bool all = wanted.empty() || wanted[i] == Wanted::kAll;
    const auto want = [&](Wanted result) { return all || wanted[i] == result; };
    const bool bytes = format.scale != ScaleEncoding::kFp32;
    const bool packed = want(Wanted::kPacked);
    const bool values = dequantized && want(Wanted::kValues);
    const bool exact = format.exact != ExactValue::kNone && want(Wanted::kExact);
    const std::vector<float> amax(format.has_outer_scale() ? sizes.outer : 0, request.amax.value_or(0));
    const Request::Moved moved = request.moved.value_or(Request::Moved{});
    device.emplace_back(new DeviceResults{
        DeviceBytes(packed ? sizes.elements / 2 : 0), DeviceBytes(packed && (all || !bytes) ? sizes.blocks * 4 : 0),
        DeviceBytes(values ? sizes.elements * size_of(*dequantized) : 0), DeviceBytes(exact ? sizes.elements : 0),
        DeviceBytes(packed && (all || bytes) ? sizes.packed : 0), DeviceBytes(all ? sizes.selectors : 0),
        DeviceBytes(sizes.outer * 4), DeviceBytes(bytes_of(amax)), DeviceBytes(std::vector<std::uint8_t>(8)),
        DeviceBytes(bytes_of(request.rows)),
        DeviceBytes(bytes_of(std::vector<std::uint32_t>{moved.step, moved.layer, moved.first_row}))});
    const DeviceResults& d = *device.back();
    DeviceTask& task = tasks.emplace_back();
    task.task.spec = request.spec;
    task.task.place = request.place;
    if (!request.rows.empty()) task.task.place.row_numbers = d.rows.as<std::uint32_t>();
    if (request.moved) {
      const auto* numbers = d.moved.as<std::uint32_t>();
      task.place = {numbers, numbers + 1, numbers + 2};
    }
    Quantized& out = task.task.out;
    if (packed) out.codes = d.codes.as<std::uint8_t>();
    if (d.scales.size() != 0) out.scales = d.scales.as<float>();
    if (values) out.dequantized = d.dequantized.data();
    out.dequantized_dtype = dequantized.value_or(DType::kBF16);
    if (exact) write_exact(out, format, d.exact.data());
    if (d.packed_scales.size() != 0) out.packed_scales = d.packed_scales.as<std::uint8_t>();
    if (d.selectors.size() != 0) out.selectors = d.selectors.as<std::uint8_t>();
    out.outer_scales = d.outer_scales.as<float>();
    if (format.has_window()) {
      out.amax = d.seen.as<float>();
      out.clipped = d.seen.as<std::uint32_t>() + 1;
    }
    if (!format.has_outer_scale()) continue;
    // Where the kernel finds what the scales follow from, it does; what another pass finds is compared all the same.
    if (request.amax || !cuda::finds_outer(in.dtype, task)) task.task.outer_amax = d.outer_amax.as<float>();
    if (!request.amax) amax_tasks.push_back({request.spec, request.place, d.outer_amax.as<float>()});
  }
  cuda::raise_outer_amax(in.view(input.data()), amax_tasks, nullptr);
  cuda::quantize(in.view(input.data()), tasks, nullptr);
  check(cudaDeviceSynchronize());
  std::vector<Results> results;
  for (const auto& d : device) {
    Results& r = results.emplace_back(Results{d->codes.fetch(), d->scales.fetch(), d->dequantized.fetch(),
                                              d->exact.fetch(), d->packed_scales.fetch(), d->selectors.fetch(),
                                              d->outer_scales.fetch(), d->outer_amax.fetch()});
    r.amax = d->seen.fetch_as<float>()[0];
    r.clipped = d->seen.fetch_as<std::uint32_t>()[1];
  }
  return results;
}

std::string describe(const HostMatrix& in, const Request& request) {
  const OperandSpec& spec = request.spec;
  const Place& place = request.place;
  return std::string(name_of(in.dtype)) + " [" + std::to_string(in.rows) + ", " + std::to_string(in.columns) +
         "] stride " + std::to_string(in.row_stride) + " shift " + std::to_string(in.shift) + ", " +
         std::string(spec.format->name) + " " + std::string(name_of(place.axis)) + "s " +
         std::string(name_of(spec.rounding)) + " block " + std::to_string(spec.block_size()) + " hadamard " +
         std::to_string(spec.hadamard.size) + " outer " + std::string(name_of(spec.outer_each())) + " offsets " +
         std::to_string(place.row_offset) + ", " + std::to_string(place.column_offset);
}

std::string difference(const Results& gpu, const Results& cpu, const HostMatrix& in, const Request& request) {
  const Sizes sizes(in, request);
  const QuantizedShape& shape = sizes.shape;
  const BlockFormat& format = *request.spec.format;
  const OuterShape outer = outer_shape(shape, request.spec.outer_each());
  const std::int64_t selectors = format.selector_block == 0 ? 1 : shape.columns / format.selector_block;
  const std::size_t value_bytes = cpu.dequantized.empty() ? 1 : cpu.dequantized.size() / sizes.elements;
  for (const std::string& text :
       {first_difference("amax", gpu.outer_amax, cpu.outer_amax, outer.columns, 4),
        first_difference("scales", gpu.scales, cpu.scales, shape.scales_per_row, 4),
        first_difference("codes", gpu.codes, cpu.codes, shape.codes_per_row(), 1),
        first_difference("values", gpu.dequantized, cpu.dequantized, shape.columns, value_bytes),
        first_difference("exact values", gpu.exact, cpu.exact, shape.columns, 1),
        first_difference("packed scales", gpu.packed_scales, cpu.packed_scales,
                         shape.scales_per_row * format.packed_scale_bytes(), 1),
        first_difference("selectors", gpu.selectors, cpu.selectors, selectors, 1),
        first_difference("second-level scales", gpu.outer_scales, cpu.outer_scales, outer.columns, 4)}) {
    if (!text.empty()) return describe(in, request) + ": " + text;
  }
  if (gpu.amax != cpu.amax) {
    return describe(in, request) + ": amax " + std::to_string(gpu.amax) + ", CPU " + std::to_string(cpu.amax);
  }
  if (gpu.clipped != cpu.clipped) {
    return describe(in, request) + ": " + std::to_string(gpu.clipped) + " blocks clipped, CPU " +
           std::to_string(cpu.clipped);
  }
  return {};
}

}  // namespace ufp4::testing
