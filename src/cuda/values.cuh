// Values of the three input types, packed in 32-bit words as they lie in memory.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "ufp4/dtype.h"

namespace ufp4::cuda {

// `get` gives the value in part 0 (the lower) or 1 of a word, for a part that the compiler knows; `select` for any.
template <DType kType>
struct Values;

template <>
struct Values<DType::kF32> {
  using Element = float;
  static constexpr int kPerWord = 1;
  __device__ static float get(std::uint32_t word, int /*part*/) { return __uint_as_float(word); }
  __device__ static float select(std::uint32_t word, int /*part*/) { return __uint_as_float(word); }
};

template <>
struct Values<DType::kBF16> {
  using Element = std::uint16_t;
  static constexpr int kPerWord = 2;
  __device__ static float get(std::uint32_t word, int part) {
    return __uint_as_float(part == 0 ? word << 16 : word & 0xFFFF0000u);
  }
  __device__ static float select(std::uint32_t word, int part) {
    return __uint_as_float(__byte_perm(word, 0, part == 0 ? 0x1044 : 0x3244));
  }
};

template <>
struct Values<DType::kF16> {
  using Element = std::uint16_t;
  static constexpr int kPerWord = 2;
  __device__ static float get(std::uint32_t word, int part) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(part == 0 ? word : word >> 16)));
  }
  __device__ static float select(std::uint32_t word, int part) { return get(word, part); }
};

}  // namespace ufp4::cuda
