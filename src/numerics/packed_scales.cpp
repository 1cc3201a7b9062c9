#include "numerics/packed_scales.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "ufp4/dtype.h"

namespace ufp4 {
namespace {

// Of numbers that have a code: no rounding, and no branch that a compiler could not turn into a selection.
std::uint8_t exact_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t normal = (magnitude >> 20) - (120u << 3);
  const auto subnormal = static_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 512);
  const std::uint32_t code = magnitude > 0x7F800000u ? 0x7Fu : magnitude < (121u << 23) ? subnormal : normal;
  return static_cast<std::uint8_t>(code | (bits >> 24 & 0x80u));
}

std::uint8_t exact_e8m0(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint8_t>(bits >> 23);  // 2^-127 is subnormal and has the exponent field 0; NaN has 255
}

std::uint8_t exact_e6m2(float value) {
  if (std::isnan(value)) return 0xFF;
  return static_cast<std::uint8_t>((std::bit_cast<std::uint32_t>(value) >> 21) - (79u << 2));
}

float e6m2_to_float(std::uint8_t code) {
  if (code == 0xFF) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>((code + (79u << 2)) << 21);
}

using Decoder = std::array<float, 256>;

template <typename Decode>
Decoder make_decoder(Decode decode) {
  Decoder table{};
  for (unsigned code = 0; code < 256; ++code) table[code] = decode(static_cast<std::uint8_t>(code));
  return table;
}

const Decoder& decoder_of(ScaleEncoding encoding) {
  static const Decoder e4m3 = make_decoder(e4m3_to_float);
  static const Decoder e8m0 = make_decoder(e8m0_to_float);
  static const Decoder e6m2 = make_decoder(e6m2_to_float);
  return encoding == ScaleEncoding::kE8m0 ? e8m0 : encoding == ScaleEncoding::kE6m2 ? e6m2 : e4m3;
}

// The parts of a block of hif4.
constexpr std::size_t kPartsOf4 = 16;
constexpr std::size_t kExponentBytes = 3;

// A part of 4 elements has the sum of its own bit and that of its 8; where both of a pair have a bit it is the 8's.
void pack_exponents(const std::uint8_t* selectors, std::uint8_t* packed) {
  std::uint32_t of_8 = 0;
  std::uint32_t of_4 = 0;
  for (std::size_t pair = 0; pair < kPartsOf4 / 2; ++pair) {
    const std::uint32_t shared = std::min({selectors[2 * pair], selectors[2 * pair + 1], std::uint8_t{1}});
    of_8 |= shared << pair;
    for (std::size_t i = 2 * pair; i < 2 * pair + 2; ++i) of_4 |= (selectors[i] - shared) << i;
  }
  packed[0] = static_cast<std::uint8_t>(of_8);
  packed[1] = static_cast<std::uint8_t>(of_4);
  packed[2] = static_cast<std::uint8_t>(of_4 >> 8);
}

void unpack_exponents(const std::uint8_t* packed, std::uint8_t* selectors) {
  const std::uint32_t of_4 = packed[1] | std::uint32_t{packed[2]} << 8;
  for (std::size_t i = 0; i < kPartsOf4; ++i) {
    selectors[i] = static_cast<std::uint8_t>((packed[0] >> (i / 2) & 1u) + (of_4 >> i & 1u));
  }
}

}  // namespace

void pack_scales(const BlockFormat& format, const float* scales, const std::uint8_t* selectors, std::size_t blocks,
                 std::uint8_t* packed) {
  switch (format.scale) {
    case ScaleEncoding::kFp32: std::memcpy(packed, scales, blocks * sizeof(float)); return;
    case ScaleEncoding::kE8m0: std::transform(scales, scales + blocks, packed, exact_e8m0); return;
    case ScaleEncoding::kE4m3:
    case ScaleEncoding::kPow2:
      std::transform(scales, scales + blocks, packed, exact_e4m3);
      if (format.selector_block == 0) return;
      for (std::size_t i = 0; i < blocks; ++i) packed[i] |= static_cast<std::uint8_t>(selectors[i] << 7);
      return;
    case ScaleEncoding::kInt8:
      for (std::size_t i = 0; i < blocks; ++i) {
        packed[i] = static_cast<std::uint8_t>(static_cast<std::int8_t>(scales[i]));
      }
      return;
    case ScaleEncoding::kE6m2:
      for (std::size_t i = 0; i < blocks; ++i) {
        packed[i * (1 + kExponentBytes)] = exact_e6m2(scales[i]);
        pack_exponents(selectors + i * kPartsOf4, packed + i * (1 + kExponentBytes) + 1);
      }
      return;
  }
}

void unpack_scales(const BlockFormat& format, const std::uint8_t* packed, std::size_t blocks, float* scales,
                   std::uint8_t* selectors) {
  const Decoder& decoder = decoder_of(format.scale);
  switch (format.scale) {
    case ScaleEncoding::kFp32: std::memcpy(scales, packed, blocks * sizeof(float)); return;
    case ScaleEncoding::kE8m0:
    case ScaleEncoding::kPow2:
      for (std::size_t i = 0; i < blocks; ++i) scales[i] = decoder[packed[i]];
      return;
    case ScaleEncoding::kInt8:
      for (std::size_t i = 0; i < blocks; ++i) scales[i] = static_cast<std::int8_t>(packed[i]);
      return;
    case ScaleEncoding::kE4m3:
      for (std::size_t i = 0; i < blocks; ++i) scales[i] = decoder[packed[i] & 0x7Fu];
      if (format.selector_block == 0) return;
      for (std::size_t i = 0; i < blocks; ++i) selectors[i] = packed[i] >> 7;
      return;
    case ScaleEncoding::kE6m2:
      for (std::size_t i = 0; i < blocks; ++i) {
        scales[i] = decoder[packed[i * (1 + kExponentBytes)]];
        unpack_exponents(packed + i * (1 + kExponentBytes) + 1, selectors + i * kPartsOf4);
      }
      return;
  }
}

void integers_of(const std::uint8_t* codes, const float* scales, std::int64_t blocks, int block, std::int8_t* out) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const auto scale = static_cast<std::int16_t>(scales[b]);
    for (std::int64_t i = 0; i < block / 2; ++i) {
      const std::uint8_t two = codes[i];
      // A nibble to its integer: as an offset from -8, after its sign bit is flipped.
      out[2 * i] = static_cast<std::int8_t>((((two & 15) ^ 8) - 8) * scale);
      out[2 * i + 1] = static_cast<std::int8_t>(((two >> 4 ^ 8) - 8) * scale);
    }
    codes += block / 2;
    out += block;
  }
}

}  // namespace ufp4
