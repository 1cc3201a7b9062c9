// Quantizations of a matrix on the GPU and on the CPU, whose results tests/quantization compares.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "quantization/matrix.h"
#include "quantization/results.h"
#include "ufp4/backend.h"
#include "ufp4/quantize.h"

namespace ufp4::testing {

// An array in device memory, poisoned at first, with a guard behind it.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t size);
  explicit DeviceBytes(const std::vector<std::uint8_t>& bytes);
  ~DeviceBytes();
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  void* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  // The bytes, when the device has done its work. Throws if something was written to the guard.
  std::vector<std::uint8_t> fetch() const;
  template <typename T>
  std::vector<T> fetch_as() const {
    const std::vector<std::uint8_t> bytes = fetch();
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

// One quantization of a matrix.
struct Request {
  QuantizeTask task;                  // without results, amax and row numbers
  std::optional<float> amax{};        // what every second-level scale follows from; none: found
  std::vector<std::uint32_t> rows{};  // row_numbers of the place; empty: none
  // Numbers that the device reads from its memory, in place of the host's or added to them.
  struct Moved {
    std::uint32_t step, layer, first_row;
  };
  std::optional<Moved> moved{};
};

// What quantize writes, and what second-level scales follow from; empty for formats that have none.
struct Outcome {
  Results results;
  std::vector<float> outer_amax;
};

// Everything, on the CPU by all cores. Dequantized values only where a type is given.
Outcome quantize_on_cpu(const Matrix& in, const Request& request, std::optional<DType> dequantized);

// The results that a call asks for: kernels know some choices in advance.
enum class Choice : std::uint8_t { kAll, kPacked, kValues, kExact };

// On the GPU: one call for all requests, after one that finds what their second-level scales follow from. Throws if
// something was written beyond a result. `choices` may have an entry for every request.
std::vector<Outcome> quantize_on_gpu(const Matrix& in, const std::vector<Request>& requests,
                                     std::optional<DType> dequantized, const std::vector<Choice>& choices = {});

// Empty if all bits of what the GPU was asked for are equal, else the request and the first difference in words.
std::string difference(const Outcome& gpu, const Outcome& cpu, const Matrix& in, const Request& request);

}  // namespace ufp4::testing
