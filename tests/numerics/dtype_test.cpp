#include "ufp4/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace ufp4 {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The value of a small float by the definition of the format, in double.
double defined_value(unsigned bits, int exponent_bits, int mantissa_bits) {
  const unsigned mantissa = bits & ((1u << mantissa_bits) - 1u);
  const int field = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1u));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = ((bits >> (exponent_bits + mantissa_bits)) & 1u) != 0 ? -1 : 1;
  if (field == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  const double fraction = std::ldexp(static_cast<double>(mantissa), -mantissa_bits);
  return sign * (field == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, field - bias));
}

struct SmallFloat {
  const char* name;
  int exponent_bits;
  int mantissa_bits;
  float (*decode)(std::uint16_t);
  std::uint16_t (*encode)(float);
};

const std::vector<SmallFloat> kSmallFloats{
    {"bf16", 8, 7, [](std::uint16_t b) { return bf16_to_float(b); }, [](float f) { return float_to_bf16(f); }},
    {"f16", 5, 10, f16_to_float, float_to_f16},
};

TEST(Dtype, DecodesEveryCodeByDefinition) {
  for (const SmallFloat& type : kSmallFloats) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const double expected = defined_value(bits, type.exponent_bits, type.mantissa_bits);
      const float found = type.decode(static_cast<std::uint16_t>(bits));
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(found)) << type.name << " " << bits;
      } else {
        ASSERT_EQ(static_cast<double>(found), expected) << type.name << " " << bits;
      }
      ASSERT_EQ(std::signbit(found), bits >= 32768u) << type.name << " " << bits;
    }
  }
}

TEST(Dtype, EncodesEveryDecodedCodeBack) {
  for (const SmallFloat& type : kSmallFloats) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
      const float value = type.decode(static_cast<std::uint16_t>(bits));
      const std::uint16_t back = type.encode(value);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(type.decode(back))) << type.name << " " << bits;
        ASSERT_EQ(back >> 15, bits >> 15) << type.name << " " << bits;
      } else {
        ASSERT_EQ(back, bits) << type.name;
      }
    }
  }
}

// Between two neighbouring values the boundary is their middle, which goes to the even code; the FP32 neighbours of the
// middle go to their own side. Together with monotony this fixes the whole function.
TEST(Dtype, RoundsAtEveryMiddle) {
  for (const SmallFloat& type : kSmallFloats) {
    const unsigned infinity = ((1u << type.exponent_bits) - 1u) << type.mantissa_bits;
    for (unsigned low = 0; low < infinity; ++low) {
      const double a = defined_value(low, type.exponent_bits, type.mantissa_bits);
      // Beyond the largest finite value the next step would be as wide as the last one.
      const double b = low + 1 < infinity ? defined_value(low + 1, type.exponent_bits, type.mantissa_bits)
                                          : 2 * a - defined_value(low - 1, type.exponent_bits, type.mantissa_bits);
      const auto middle = static_cast<float>((a + b) / 2);
      ASSERT_EQ(static_cast<double>(middle), (a + b) / 2) << "the middle is no FP32 number";
      for (const float sign : {1.0F, -1.0F}) {
        const unsigned high_bit = sign < 0 ? 0x8000u : 0u;
        const unsigned even = low % 2 == 0 ? low : low + 1;
        ASSERT_EQ(type.encode(sign * middle), high_bit | even) << type.name << " " << low;
        ASSERT_EQ(type.encode(sign * std::nextafter(middle, 0.0F)), high_bit | low) << type.name << " " << low;
        ASSERT_EQ(type.encode(sign * std::nextafter(middle, kInfinity)), high_bit | (low + 1))
            << type.name << " " << low;
      }
    }
    EXPECT_EQ(type.encode(kInfinity), infinity);
    EXPECT_EQ(type.encode(-kInfinity), infinity | 0x8000u);
    EXPECT_EQ(type.encode(std::numeric_limits<float>::max()), infinity);
    EXPECT_EQ(type.encode(std::numeric_limits<float>::denorm_min()), 0);
    EXPECT_EQ(type.encode(-std::numeric_limits<float>::denorm_min()), 0x8000);
  }
}

// A NaN whose payload lies in the low bits only must not become an infinity.
TEST(Dtype, KeepsNanWithLowPayload) {
  for (const SmallFloat& type : kSmallFloats) {
    for (const std::uint32_t bits : {0x7F800001u, 0xFF800001u, 0x7FFFFFFFu, 0x7FC00000u}) {
      EXPECT_TRUE(std::isnan(type.decode(type.encode(std::bit_cast<float>(bits))))) << type.name << " " << bits;
    }
  }
}

TEST(Dtype, NamesAndSizes) {
  EXPECT_EQ(name_of(DType::kF32), "F32");
  EXPECT_EQ(name_of(DType::kBF16), "BF16");
  EXPECT_EQ(name_of(DType::kF16), "F16");
  EXPECT_EQ(size_of(DType::kF32), 4u);
  EXPECT_EQ(size_of(DType::kBF16), 2u);
  EXPECT_EQ(size_of(DType::kF16), 2u);
}

}  // namespace
}  // namespace ufp4
