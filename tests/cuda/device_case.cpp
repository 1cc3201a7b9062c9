#include "cuda/device_case.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "cuda/quantize.h"
#include "numerics/scale_rules.h"
#include "quantization/cases.h"

namespace ufp4::testing {
namespace {

constexpr std::size_t kGuard = 256;  // bytes behind every array
constexpr std::uint8_t kPoison = 0xA5;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

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

// As many as there are second-level scales, all what the request gives.
std::vector<float> given_amax(const Matrix& in, const Request& request) {
  const OperandSpec& spec = request.task.spec;
  if (!spec.format->has_outer_scale()) return {};
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec, request.task.place.axis);
  const OuterShape outer = outer_shape(shape, spec.outer_each());
  return std::vector<float>(static_cast<std::size_t>(outer.rows * outer.columns), request.amax.value_or(0));
}

Wanted wanted_by(Choice choice, const BlockFormat& format, std::optional<DType> dequantized) {
  if (choice == Choice::kAll) return {.values = dequantized, .e4m3 = true, .window = true};
  const bool packed = choice == Choice::kPacked;
  const bool bytes = format.scale != ScaleEncoding::kFp32;
  const bool exact = choice == Choice::kExact;
  return {.codes = packed,
          .scales = packed && !bytes,
          .values = choice == Choice::kValues ? dequantized : std::nullopt,
          .selectors = false,
          .packed_scales = packed && bytes,
          .int8 = exact,
          .e4m3 = exact,
          .window = true};
}

// A request in device memory.
struct OnDevice {
  Results results;
  std::vector<std::unique_ptr<DeviceBytes>> arrays;
  DeviceBytes amax, rows, moved;

  OnDevice(const Matrix& in, const Request& request, const Wanted& wanted)
      : results(in.view(), request.task, wanted),
        amax(bytes_of(given_amax(in, request))),
        rows(bytes_of(request.rows)),
        moved(bytes_of(numbers_of(request))) {
    for (const std::vector<std::uint8_t>& bytes : results.bytes) arrays.push_back(std::make_unique<DeviceBytes>(bytes));
  }

  DeviceTask task(const Request& request) const {
    DeviceTask task;
    task.task = request.task;
    std::array<void*, kArrays> addresses{};
    for (std::size_t i = 0; i < kArrays; ++i) addresses[i] = arrays[i]->data();
    task.task.out = results_at(addresses, results.arrays, results.wanted);
    if (amax.size() != 0) task.task.outer_amax = amax.as<float>();
    if (rows.size() != 0) task.task.place.row_numbers = rows.as<std::uint32_t>();
    if (request.moved) {
      const auto* numbers = moved.as<std::uint32_t>();
      task.place = {numbers, numbers + 1, numbers + 2};
    }
    return task;
  }

  Outcome fetch() const {
    Outcome outcome{results, amax.fetch_as<float>()};
    for (std::size_t i = 0; i < kArrays; ++i) outcome.results.bytes[i] = arrays[i]->fetch();
    return outcome;
  }

 private:
  static std::vector<std::uint32_t> numbers_of(const Request& request) {
    const Request::Moved moved = request.moved.value_or(Request::Moved{});
    return {moved.step, moved.layer, moved.first_row};
  }
};

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

Outcome quantize_on_cpu(const Matrix& in, const Request& request, std::optional<DType> dequantized) {
  QuantizeTask task = request.task;
  Place& place = task.place;
  if (request.moved) {
    place.step = request.moved->step;
    place.stream += kStreamsPerLayer * request.moved->layer;
    (place.axis == Axis::kRow ? place.row_offset : place.column_offset) += request.moved->first_row;
  }
  if (!request.rows.empty()) place.row_numbers = request.rows.data();
  const Backend& backend = backend_for(*task.spec.format);
  std::vector<float> amax = given_amax(in, request);
  if (!amax.empty() && !request.amax) {
    std::mutex mutex;  // of amax
    in_slabs(in.rows, [&](std::int64_t first, std::int64_t last) {
      std::vector<float> own(amax.size());
      backend.raise_outer_amax(in.view(), task.spec, place, {first, last}, own.data());
      const std::lock_guard lock(mutex);
      std::transform(own.begin(), own.end(), amax.begin(), amax.begin(), reference::raised);
    });
  }
  if (!amax.empty()) task.outer_amax = amax.data();
  Results results =
      quantize_by_all_cores(backend, in.view(), task, {.values = dequantized, .e4m3 = true, .window = true});
  results.task = request.task;  // which points to nothing here
  return {std::move(results), std::move(amax)};
}

std::vector<Outcome> quantize_on_gpu(const Matrix& in, const std::vector<Request>& requests,
                                     std::optional<DType> dequantized, const std::vector<Choice>& choices) {
  const DeviceBytes input(in.bytes);
  std::vector<std::unique_ptr<OnDevice>> device;
  std::vector<DeviceTask> tasks;
  std::vector<cuda::AmaxTask> amax_tasks;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    const BlockFormat& format = *request.task.spec.format;
    const Choice choice = choices.empty() ? Choice::kAll : choices[i];
    const OnDevice& own =
        *device.emplace_back(std::make_unique<OnDevice>(in, request, wanted_by(choice, format, dequantized)));
    DeviceTask& task = tasks.emplace_back(own.task(request));
    // Where the kernel finds what the scales follow from, it does; what another pass finds is compared all the same.
    if (!request.amax && cuda::finds_outer(in.dtype, task)) task.task.outer_amax = nullptr;
    if (!format.has_outer_scale() || request.amax) continue;
    amax_tasks.push_back({request.task.spec, request.task.place, own.amax.as<float>()});
  }
  cuda::raise_outer_amax(in.view(input.data()), amax_tasks, nullptr);
  cuda::quantize(in.view(input.data()), tasks, nullptr);
  check(cudaDeviceSynchronize());
  std::vector<Outcome> outcomes;
  for (const auto& own : device) outcomes.push_back(own->fetch());
  return outcomes;
}

std::string difference(const Outcome& gpu, const Outcome& cpu, const Matrix& in, const Request& request) {
  std::string text =
      first_difference("amax", std::span<const float>(gpu.outer_amax), std::span<const float>(cpu.outer_amax));
  if (text.empty()) text = first_difference(gpu.results, cpu.results);
  return text.empty() ? text : describe(in.view(), request.task) + ": " + text;
}

}  // namespace ufp4::testing
