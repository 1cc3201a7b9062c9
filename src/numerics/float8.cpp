// The 8-bit scale formats.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ufp4/dtype.h"

namespace ufp4 {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// |value| as a multiple of the spacing of an 8-bit float with `mantissa_bits` and least normal exponent `min_exponent`,
// rounded to nearest even, as the code of its magnitude: exponent field and mantissa in one integer.
std::uint32_t round_magnitude(float magnitude, int mantissa_bits, int min_exponent) {
  const int exponent = magnitude == 0 ? min_exponent : std::max(std::ilogb(magnitude), min_exponent);
  // Exact: a multiplication by a power of two of an FP32 number into FP64; then one rounding.
  const double steps = std::ldexp(static_cast<double>(magnitude), mantissa_bits - exponent);
  const auto rounded = static_cast<std::uint32_t>(std::nearbyint(steps));
  // A normal number has an implicit leading one, which is 1 in the exponent field of the least normal exponent.
  return (static_cast<std::uint32_t>(exponent - min_exponent) << mantissa_bits) + rounded;
}

float decode_magnitude(std::uint32_t code, int mantissa_bits, int min_exponent) {
  const std::uint32_t field = code >> mantissa_bits;
  const std::uint32_t mantissa = code & ((1u << mantissa_bits) - 1u);
  if (field == 0) return std::ldexp(static_cast<float>(mantissa), min_exponent - mantissa_bits);
  return std::ldexp(static_cast<float>(mantissa + (1u << mantissa_bits)),
                    static_cast<int>(field) - 1 + min_exponent - mantissa_bits);
}

std::uint8_t sign_bit(float value) { return std::signbit(value) ? 0x80 : 0; }

}  // namespace

float e4m3_to_float(std::uint8_t bits) {
  if ((bits & 0x7Fu) == 0x7Fu) return kNan;
  return std::copysign(decode_magnitude(bits & 0x7Fu, 3, -6), (bits & 0x80u) != 0 ? -1.0F : 1.0F);
}

std::uint8_t float_to_e4m3(float value) {
  if (!(std::fabs(value) <= 464)) return sign_bit(value) | 0x7F;
  return static_cast<std::uint8_t>(sign_bit(value) | round_magnitude(std::fabs(value), 3, -6));
}

float e5m2_to_float(std::uint8_t bits) {
  const std::uint32_t code = bits & 0x7Fu;
  const float sign = (bits & 0x80u) != 0 ? -1.0F : 1.0F;
  if (code > 0x7Cu) return kNan;
  return std::copysign(code == 0x7Cu ? std::numeric_limits<float>::infinity() : decode_magnitude(code, 2, -14), sign);
}

std::uint8_t float_to_e5m2(float value) {
  if (std::isnan(value)) return sign_bit(value) | 0x7E;
  if (std::fabs(value) >= 61440) return sign_bit(value) | 0x7C;  // half way from 57344 to 2^16, and above
  return static_cast<std::uint8_t>(sign_bit(value) | round_magnitude(std::fabs(value), 2, -14));
}

float e8m0_to_float(std::uint8_t bits) { return bits == 0xFF ? kNan : std::ldexp(1.0F, int{bits} - 127); }

std::uint8_t float_to_e8m0(float value) {
  if (!std::isfinite(value)) return 0xFF;
  if (value <= 0x1p-127F) return 0;
  const int exponent = std::ilogb(value);
  const float fraction = std::ldexp(value, -exponent);  // [1, 2)
  const int field = exponent + 127;
  const bool up = fraction > 1.5F || (fraction == 1.5F && field % 2 != 0);
  return static_cast<std::uint8_t>(std::min(field + (up ? 1 : 0), 255));
}

}  // namespace ufp4
