// Element types of the tensors that the library reads and writes, and their conversions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ufp4 {

enum class DType : std::uint8_t { kF32, kBF16, kF16 };

// Bytes of one element.
constexpr std::size_t size_of(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// "F32", "BF16", "F16": the names that safetensors uses.
constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kBF16: return "BF16";
    case DType::kF16: return "F16";
  }
  return "?";
}

// Exact.
constexpr float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// Round to nearest even; a NaN stays a (quiet) NaN of the same sign; values beyond the largest become infinite.
constexpr std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// Exact; IEEE binary16, with subnormals.
float f16_to_float(std::uint16_t bits);

// Round to nearest even; a NaN stays a NaN; values of 65520 and above in magnitude become infinite.
std::uint16_t float_to_f16(float value);

// The 8-bit formats of scales. Decoding is exact; encoding rounds to nearest even.

// OCP E4M3: no infinity, 0x7F and 0xFF are NaN, largest 448. Encoding: values above 464 and NaN give NaN (a caller that
// wants saturation clamps first); at most 464 rounds to 448.
float e4m3_to_float(std::uint8_t bits);
std::uint8_t float_to_e4m3(float value);

// OCP E5M2: IEEE-like, with infinities and NaNs, largest 57344.
float e5m2_to_float(std::uint8_t bits);
std::uint8_t float_to_e5m2(float value);

// OCP E8M0: 2^(bits - 127); 0xFF is NaN. Encoding rounds to the nearest power of two, a value half way between two
// (1.5 * 2^k) to the even exponent field; zero and less give 2^-127.
float e8m0_to_float(std::uint8_t bits);
std::uint8_t float_to_e8m0(float value);

}  // namespace ufp4
