// A matrix with hostile values, its quantization on the GPU and on the CPU, and the comparison of their bits.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

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

// A matrix in host memory with its rows `row_stride` elements apart, the first `shift` elements into its storage.
struct HostMatrix {
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_stride = 0;
  std::int64_t shift = 0;
  std::vector<std::uint8_t> bytes;

  ConstMatrix view(const void* data) const;  // of a copy of `bytes` at `data`
  ConstMatrix view() const { return view(bytes.data()); }
};

// Values that quantization may get wrong: ties, zeros of both signs, values near 2^-120, subnormal, huge and non-finite
// ones, in patches of 16 x 16 between normal data.
HostMatrix hostile_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t padding,
                          std::int64_t shift, std::uint64_t seed);

// Plain normal values; fast enough for 10^8 of them.
HostMatrix normal_matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed);

// One quantization of a matrix.
struct Request {
  OperandSpec spec;
  Place place;                        // its row_numbers are those below
  std::optional<float> amax{};        // what every second-level scale follows from; none: found
  std::vector<std::uint32_t> rows{};  // row_numbers of the place; empty: none
  // Numbers that the device reads from its memory, in place of the host's or added to them.
  struct Moved {
    std::uint32_t step, layer, first_row;
  };
  std::optional<Moved> moved{};
};

// Everything that quantize writes and raise_outer_amax finds; empty where there is nothing of the kind.
struct Results {
  std::vector<std::uint8_t> codes, scales, dequantized, exact, packed_scales, selectors, outer_scales, outer_amax;
  float amax = 0;  // this and what follows only for formats with a window
  std::uint32_t clipped = 0;
};

// On the CPU by all cores. Dequantized values only where a type is given.
Results quantize_on_cpu(const HostMatrix& in, const Request& request, std::optional<DType> dequantized);

// The results that a call asks for: kernels know some choices in advance. Others are left empty.
enum class Wanted : std::uint8_t { kAll, kPacked, kValues, kExact };

// On the GPU: one call for all requests, after one that finds what their second-level scales follow from. Throws if
// something was written beyond a result. `wanted` may have an entry for every request.
std::vector<Results> quantize_on_gpu(const HostMatrix& in, const std::vector<Request>& requests,
                                     std::optional<DType> dequantized, const std::vector<Wanted>& wanted = {});

// Empty if all bits of what the GPU was asked for are equal, else the first difference in words.
std::string difference(const Results& gpu, const Results& cpu, const HostMatrix& in, const Request& request);

std::string describe(const HostMatrix& in, const Request& request);

}  // namespace ufp4::testing
