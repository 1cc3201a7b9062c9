// The conversions of 8- and 16-bit formats against what ml_dtypes gives (tests/golden/make_golden.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "ufp4/dtype.h"

namespace ufp4 {
namespace {

struct Conversion {
  float (*decode)(std::uint16_t);
  std::uint16_t (*encode)(float);
};

const std::map<std::string, Conversion>& conversions() {
  static const std::map<std::string, Conversion> map{
      {"e4m3",
       {[](std::uint16_t b) { return e4m3_to_float(static_cast<std::uint8_t>(b)); },
        [](float v) -> std::uint16_t { return float_to_e4m3(v); }}},
      {"e5m2",
       {[](std::uint16_t b) { return e5m2_to_float(static_cast<std::uint8_t>(b)); },
        [](float v) -> std::uint16_t { return float_to_e5m2(v); }}},
      {"e8m0",
       {[](std::uint16_t b) { return e8m0_to_float(static_cast<std::uint8_t>(b)); },
        [](float v) -> std::uint16_t { return float_to_e8m0(v); }}},
      {"bf16", {[](std::uint16_t b) { return bf16_to_float(b); }, [](float v) { return float_to_bf16(v); }}},
      {"f16", {[](std::uint16_t b) { return f16_to_float(b); }, [](float v) { return float_to_f16(v); }}},
  };
  return map;
}

// 64-bit FNV-1a, a 32-bit word a step, as make_golden.py computes it.
class Hash {
 public:
  void add(std::uint32_t word) { value_ = (value_ ^ word) * 0x100000001B3u; }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325u;
};

// ml_dtypes' cast to E8M0 is not nearest everywhere: a tie goes up, and so does every subnormal above 2^-127. Ours
// rounds to nearest with ties to the even exponent field.
bool ml_dtypes_is_not_nearest_even(const std::string& format, float value) {
  if (format != "e8m0") return false;
  const bool tie = (std::bit_cast<std::uint32_t>(value) & 0x7FFFFFu) == 0x400000u;
  return tie || value < 0x1p-126F;
}

std::vector<std::vector<std::string>> golden_lines(const std::string& kind) {
  std::ifstream file(UFP4_GOLDEN_DIR "/conversions.txt");
  std::vector<std::vector<std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    if (words.at(0) == kind) lines.push_back(words);
  }
  return lines;
}

std::uint32_t hex(const std::string& word) { return static_cast<std::uint32_t>(std::stoul(word, nullptr, 16)); }

TEST(Conversions, EveryEightBitCodeDecodesAsInMlDtypes) {
  const auto lines = golden_lines("decode");
  ASSERT_GT(lines.size(), 700u);
  for (const auto& line : lines) {
    const float value = conversions().at(line[1]).decode(static_cast<std::uint16_t>(hex(line[2])));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(value), hex(line[3])) << line[1] << " code " << line[2];
  }
}

TEST(Conversions, EveryEightBitRoundingBoundaryEncodesAsInMlDtypes) {
  int compared = 0;
  for (const auto& line : golden_lines("encode")) {
    const float value = std::bit_cast<float>(hex(line[2]));
    if (ml_dtypes_is_not_nearest_even(line[1], value)) continue;
    if (std::isnan(conversions().at(line[1]).decode(static_cast<std::uint16_t>(hex(line[3]))))) {
      EXPECT_TRUE(std::isnan(conversions().at(line[1]).decode(conversions().at(line[1]).encode(value))));
    } else {
      EXPECT_EQ(conversions().at(line[1]).encode(value), hex(line[3])) << line[1] << " value " << value;
    }
    ++compared;
  }
  EXPECT_GT(compared, 3500);
}

TEST(Conversions, E8m0RoundsTiesToTheEvenField) {
  EXPECT_EQ(float_to_e8m0(1.5F), 128);  // between fields 127 and 128
  EXPECT_EQ(float_to_e8m0(3.0F), 128);  // between 128 and 129
  EXPECT_EQ(float_to_e8m0(0x1p-127F), 0);
  EXPECT_EQ(float_to_e8m0(0x1.4p-127F), 0);  // a subnormal nearer to 2^-127
}

TEST(Conversions, SixteenBitFormatsAgreeWithMlDtypesOnAllCodesAndBoundaries) {
  for (const auto& line : golden_lines("decode_all")) {
    Hash hash;
    for (std::uint32_t code = 0; code < 65536; ++code) {
      const float value = conversions().at(line[1]).decode(static_cast<std::uint16_t>(code));
      if (!std::isnan(value)) hash.add(std::bit_cast<std::uint32_t>(value));
    }
    EXPECT_EQ(hash.value(), std::stoull(line[2], nullptr, 16)) << line[1];
  }
  for (const auto& line : golden_lines("encode_all")) {
    const Conversion& conversion = conversions().at(line[1]);
    std::vector<float> finite;
    for (std::uint32_t code = 0; code < 65536; ++code) {
      const float value = conversion.decode(static_cast<std::uint16_t>(code));
      if (std::isfinite(value)) finite.push_back(value);
    }
    std::sort(finite.begin(), finite.end());
    finite.erase(std::unique(finite.begin(), finite.end()), finite.end());
    std::vector<float> points = finite;
    for (std::size_t i = 1; i < finite.size(); ++i) {
      points.push_back(static_cast<float>((static_cast<double>(finite[i]) + static_cast<double>(finite[i - 1])) / 2));
    }
    std::vector<float> all = points;
    for (const float point : points) {
      all.push_back(std::nextafter(point, INFINITY));
      all.push_back(std::nextafter(point, -INFINITY));
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    ASSERT_EQ(all.size(), std::stoul(line[2])) << line[1];
    Hash hash;
    for (const float value : all) hash.add(conversion.encode(value + 0.0F));  // one zero, the positive
    EXPECT_EQ(hash.value(), std::stoull(line[3], nullptr, 16)) << line[1];
  }
}

}  // namespace
}  // namespace ufp4
