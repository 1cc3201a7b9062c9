// Scales and selectors in the bytes of their format, and back.
#include "numerics/packed_scales.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ufp4/dtype.h"

namespace ufp4 {
namespace {

// Every scale that the format knows.
std::vector<float> all_scales(ScaleEncoding encoding) {
  std::vector<float> scales;
  if (encoding != ScaleEncoding::kInt8) scales.push_back(std::numeric_limits<float>::quiet_NaN());
  switch (encoding) {
    case ScaleEncoding::kInt8:
      for (int m = -15; m < 16; ++m) scales.push_back(static_cast<float>(m));
      break;
    case ScaleEncoding::kFp32: scales.insert(scales.end(), {0, 1.5F, -3e-39F}); break;
    case ScaleEncoding::kE4m3:
      for (unsigned code = 0; code < 127; ++code) scales.push_back(e4m3_to_float(static_cast<std::uint8_t>(code)));
      break;
    case ScaleEncoding::kE8m0:
      for (int exponent = -127; exponent < 128; ++exponent) scales.push_back(std::ldexp(1.0F, exponent));
      break;
    case ScaleEncoding::kE6m2:
      for (int steps = 0; steps < 255; ++steps) {
        scales.push_back(std::ldexp(1.0F + 0.25F * static_cast<float>(steps % 4), steps / 4 - 48));
      }
      break;
    case ScaleEncoding::kPow2:
      for (int exponent = -9; exponent < 6; ++exponent) {
        scales.insert(scales.end(), {std::ldexp(1.0F, exponent), std::ldexp(-1.0F, exponent)});
      }
      break;
  }
  return scales;
}

TEST(PackedScales, EveryScaleComesBack) {
  for (const BlockFormat& format : formats()) {
    const std::vector<float> scales = all_scales(format.scale);
    const std::size_t parts =
        format.selector_block == 0 ? 0 : static_cast<std::size_t>(format.block / format.selector_block);
    // Two parts of hif4 share a bit: their sums never differ by two.
    constexpr std::array<std::uint8_t, 8> kPairs{0, 0, 0, 1, 1, 1, 1, 2};
    std::vector<std::uint8_t> selectors(scales.size() * parts);
    for (std::size_t i = 0; i < selectors.size(); ++i) {
      selectors[i] = parts == 1 ? static_cast<std::uint8_t>(i % 2) : kPairs[(i + i / parts * 2) % 8];
    }
    std::vector<std::uint8_t> packed(scales.size() * static_cast<std::size_t>(format.packed_scale_bytes()));
    pack_scales(format, scales.data(), selectors.data(), scales.size(), packed.data());
    std::vector<float> found(scales.size());
    std::vector<std::uint8_t> found_selectors(selectors.size());
    unpack_scales(format, packed.data(), scales.size(), found.data(), found_selectors.data());
    EXPECT_EQ(std::isnan(found[0]), format.scale != ScaleEncoding::kInt8) << format.name;
    for (std::size_t i = 1; i < scales.size(); ++i) EXPECT_EQ(found[i], scales[i]) << format.name;
    EXPECT_EQ(found_selectors, selectors) << format.name;
  }
}

TEST(PackedScales, AreTheCodesOfTheirType) {
  const std::vector<float> scales{448, 0x1p-9F, 0, 1};
  std::vector<std::uint8_t> bytes(4);
  pack_scales(find_format("nvfp4"), scales.data(), nullptr, 4, bytes.data());
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(bytes[i], float_to_e4m3(scales[i]));
  const std::vector<float> powers{-32, 0x1p-9F, 1, -0.125F};
  pack_scales(find_format("int4_p2"), powers.data(), nullptr, 4, bytes.data());
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(bytes[i], float_to_e4m3(powers[i]));
  const std::vector<float> exponents{0x1p-127F, 1, 0x1p127F, 2};
  pack_scales(find_format("mxfp4"), exponents.data(), nullptr, 4, bytes.data());
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(bytes[i], float_to_e8m0(exponents[i]));
}

}  // namespace
}  // namespace ufp4
