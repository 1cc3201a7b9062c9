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

struct Results {
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> scales;
  std::vector<std::uint8_t> dequantized;
  float global_scale = 0;
  std::vector<std::uint8_t> e4m3{};  // this and what follows only for formats with a window
  std::vector<std::uint8_t> packed_scales{};
  float amax = 0;
  std::uint32_t clipped = 0;
};

// The stored matrix with rows and columns exchanged, dense.
HostMatrix transposed(const HostMatrix& in);

// On the CPU by all cores, in slabs of rows. Dequantized values only where a type is given. Formats with a window need
// spec.tensor_amax.
Results quantize_on_cpu(const HostMatrix& in, const QuantizeSpec& spec, std::optional<DType> dequantized);

// The results that a call asks for: kernels know some choices in advance. Others are left empty.
enum class Wanted : std::uint8_t { kAll, kPacked, kValues, kE4m3 };

// On the GPU: one call for all specs. Throws if something was written beyond a result. `wanted` may have an entry for
// every spec.
std::vector<Results> quantize_on_gpu(const HostMatrix& in, const std::vector<QuantizeSpec>& specs,
                                     std::optional<DType> dequantized, const std::vector<Wanted>& wanted = {});

// Empty if all bits of what the GPU was asked for are equal, else the first difference in words.
std::string difference(const Results& gpu, const Results& cpu, const HostMatrix& in, const QuantizeSpec& spec);

std::string describe(const HostMatrix& in, const QuantizeSpec& spec);

}  // namespace ufp4::testing
