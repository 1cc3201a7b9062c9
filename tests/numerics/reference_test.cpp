#include "numerics/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "numerics/oracle.h"
#include "numerics/philox.h"
#include "one_level_formats.h"

namespace ufp4::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A block of 16 whose extreme makes the scale exactly `scale`, a power of two, so that value / scale is t exactly.
std::vector<float> block_with_scale(const ElementFormat& e, float scale) {
  std::vector<float> block(16, 0.0F);
  block[0] = e.code_kind == CodeKind::kFullTwosComplement ? -8 * scale : e.largest() * scale;
  return block;
}

// Both signs of the scale where the format has a signed one.
std::vector<float> scales_of(const ElementFormat& e) {
  std::vector<float> scales{1, 0x1p-100F, 0x1p100F};
  if (e.code_kind == CodeKind::kFullTwosComplement) scales.insert(scales.end(), {-1, -0x1p-100F, -0x1p100F});
  return scales;
}

Block one_level_block(std::span<const float> values, const ElementFormat& element, std::span<const std::uint32_t> n16) {
  const BlockFormat format{element.name, element, 16, ScaleEncoding::kFp32, ""};
  OperandSpec spec;
  spec.format = &format;
  return quantize_block(values, spec, n16, 0);
}

TEST(Reference, EveryCodeComesBack) {
  for (const BlockFormat& format : one_level_formats()) {
    const ElementFormat& e = format.element;
    const std::vector<std::uint8_t> codes = oracle::codes_of(e);
    EXPECT_EQ(codes.size(),
              e.code_kind == CodeKind::kFullTwosComplement ? 16u : 2u * static_cast<unsigned>(e.level_count) - 1);
    for (const float scale : scales_of(e)) {
      for (const std::uint8_t code : codes) {
        std::vector<float> values = block_with_scale(e, scale);
        values[1] = code_value(e, code) * scale;
        for (const std::uint32_t n : {0u, 32768u, 65535u}) {
          const Block nearest = one_level_block(values, e, {});
          const Block stochastic = one_level_block(values, e, std::vector<std::uint32_t>(16, n));
          ASSERT_EQ(nearest.scale, scale) << format.name;
          ASSERT_EQ(stochastic.scale, scale) << format.name;
          ASSERT_EQ(nearest.codes[1], code) << format.name << " scale " << scale;
          ASSERT_EQ(stochastic.codes[1], code) << format.name << " scale " << scale << " n " << n;
        }
      }
    }
  }
}

TEST(Reference, EveryTieAndItsNeighbours) {
  for (const BlockFormat& format : one_level_formats()) {
    const ElementFormat& e = format.element;
    const std::vector<std::uint8_t> codes = oracle::codes_of(e);
    for (const float scale : scales_of(e)) {
      for (std::size_t i = 0; i + 1 < codes.size(); ++i) {
        const float lo = code_value(e, codes[i]);
        const float hi = code_value(e, codes[i + 1]);
        const float middle = (lo + hi) / 2;
        std::vector<float> values = block_with_scale(e, scale);
        values[1] = middle * scale;
        values[2] = std::nextafter(middle, -kInfinity) * scale;
        values[3] = std::nextafter(middle, kInfinity) * scale;
        const Block block = one_level_block(values, e, {});
        ASSERT_EQ(block.scale, scale) << format.name;
        const bool lo_is_even = oracle::index_of(e, codes[i]) % 2 == 0;
        EXPECT_EQ(block.codes[1], lo_is_even ? codes[i] : codes[i + 1]) << format.name << " tie at " << middle;
        EXPECT_EQ(block.codes[2], codes[i]) << format.name << " below " << middle;
        EXPECT_EQ(block.codes[3], codes[i + 1]) << format.name << " above " << middle;
      }
    }
  }
}

// t may come out one step above the largest level: it stays the largest.
TEST(Reference, NothingGoesBeyondTheEnds) {
  for (const BlockFormat& format : one_level_formats()) {
    const std::vector<std::uint8_t> codes = oracle::codes_of(format.element);
    for (std::uint32_t mantissa = 0; mantissa < 4096; ++mantissa) {
      const float extreme = std::bit_cast<float>(0x3F800000u | (mantissa * 2048u + mantissa));
      for (const float sign : {1.0F, -1.0F}) {
        const std::vector<float> values(16, sign * extreme);
        for (const bool stochastic : {false, true}) {
          const Block block =
              one_level_block(values, format.element, std::vector<std::uint32_t>(stochastic ? 16 : 0, 65535u));
          const float back = code_value(format.element, block.codes[0]) * block.scale;
          ASSERT_NEAR(back, values[0], 4e-7F) << format.name;
          ASSERT_NE(std::find(codes.begin(), codes.end(), block.codes[0]), codes.end()) << format.name;
        }
      }
    }
  }
}

TEST(Reference, FullCodeTakesTheLargerExtreme) {
  const ElementFormat& e = find_format("int4_full").element;
  std::vector<float> values(16, 0.0F);
  values[0] = 16;  // positive extreme: the scale is negative and 16 has the code -8
  values[1] = -14;
  Block block = one_level_block(values, e, {});
  EXPECT_EQ(block.scale, -2);
  EXPECT_EQ(block.codes[0], 8);
  EXPECT_EQ(block.codes[1], 7);
  values[0] = 14;
  values[1] = -16;
  block = one_level_block(values, e, {});
  EXPECT_EQ(block.scale, 2);
  EXPECT_EQ(block.codes[0], 7);
  EXPECT_EQ(block.codes[1], 8);
  values[0] = 16;  // equal extremes: a = b, and the positive scale is taken
  block = one_level_block(values, e, {});
  EXPECT_EQ(block.scale, 16.0F / 7.0F);
  EXPECT_EQ(block.codes[0], 7);
  EXPECT_EQ(block.codes[1], 9);
}

TEST(Reference, NonFiniteAndTinyBlocks) {
  for (const BlockFormat& format : one_level_formats()) {
    const ElementFormat& e = format.element;
    for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      for (const std::size_t place : {0u, 7u, 15u}) {
        std::vector<float> values(16, 1.0F);
        values[place] = bad;
        const Block block = one_level_block(values, e, {});
        EXPECT_TRUE(std::isnan(block.scale)) << format.name;
        EXPECT_EQ(block.codes, Block{}.codes) << format.name;
      }
    }
    for (const float sign : {1.0F, -1.0F}) {
      std::vector<float> values(16, 0.0F);
      values[3] = sign * std::nextafter(0x1p-120F, 0.0F);
      EXPECT_EQ(one_level_block(values, e, {}).scale, 0) << format.name;
      EXPECT_EQ(one_level_block(values, e, {}).codes, Block{}.codes) << format.name;
      values[3] = sign * 0x1p-120F;
      const Block least = one_level_block(values, e, {});
      EXPECT_NE(least.scale, 0) << format.name;
      EXPECT_NE(least.codes[3], 0) << format.name;
      values[3] = sign * std::numeric_limits<float>::max();
      const Block most = one_level_block(values, e, {});
      EXPECT_TRUE(std::isfinite(most.scale)) << format.name;
      EXPECT_NE(most.codes[3], 0) << format.name;
    }
    const std::vector<float> zeros{0.0F, -0.0F, 0.0F, -0.0F};
    EXPECT_EQ(one_level_block(zeros, e, {}).scale, 0) << format.name;
  }
}

// A value in the gap between two neighbouring codes goes to one of them, for every one of the 65,536 random numbers as
// the definition says. The mean over 10^7 Philox draws lies within 4 standard errors of the value.
TEST(Reference, StochasticRoundingIsUnbiasedInEveryGap) {
  constexpr std::uint32_t kGroups = 1'250'000;  // of 8 draws: 10^7
  std::vector<std::int64_t> histogram(65536, 0);
  const Place random{.seed = 2026, .step = 3, .stream = 4, .row_offset = 0, .column_offset = 0};
  for (std::uint32_t group = 0; group < kGroups; ++group) {
    const philox::Counter words =
        philox::generate({group % 512, group / 512, random.step, random.stream}, philox::make_key(random.seed));
    for (const std::uint32_t word : words) {
      ++histogram[word & 0xFFFFu];
      ++histogram[word >> 16];
    }
  }
  const double draws = 8.0 * kGroups;
  ASSERT_EQ(std::accumulate(histogram.begin(), histogram.end(), std::int64_t{0}), 8 * kGroups);

  for (const BlockFormat& format : one_level_formats()) {
    const ElementFormat& e = format.element;
    const std::vector<std::uint8_t> codes = oracle::codes_of(e);
    for (const float place : {0.5F, 0.2890625F, 0.99F, 1e-3F}) {
      // All gaps of the format in one block, so that they share the draws.
      std::vector<float> values = block_with_scale(e, 1);
      std::vector<double> sum(values.size(), 0.0);
      for (std::size_t gap = 0; gap + 1 < codes.size(); ++gap) {
        const float lo = code_value(e, codes[gap]);
        const float hi = code_value(e, codes[gap + 1]);
        values[gap + 1] = lo + place * (hi - lo);
      }
      std::vector<std::uint32_t> n16(values.size());
      for (std::uint32_t n = 0; n < 65536; ++n) {
        std::fill(n16.begin(), n16.end(), n);
        const Block block = one_level_block(values, e, n16);
        for (std::size_t i = 1; i < codes.size(); ++i) {
          sum[i] += static_cast<double>(histogram[n]) * static_cast<double>(code_value(e, block.codes[i]));
          if (n % 97 == 0) {
            ASSERT_EQ(block.codes[i], oracle::stochastic(e, values[i], n))
                << format.name << " " << values[i] << " n " << n;
          }
        }
      }
      for (std::size_t i = 1; i < codes.size(); ++i) {
        const double lo = static_cast<double>(code_value(e, codes[i - 1]));
        const double hi = static_cast<double>(code_value(e, codes[i]));
        const double value = static_cast<double>(values[i]);
        const double standard_error = std::sqrt((value - lo) * (hi - value) / draws);
        EXPECT_LE(std::fabs(sum[i] / draws - value), 4 * standard_error)
            << format.name << " gap " << lo << " to " << hi << ", value " << value;
      }
    }
  }
}

// The lowest and the highest random number at places one FP32 step from a level.
TEST(Reference, StochasticRoundingAtTheEdgesOfAGap) {
  for (const BlockFormat& format : one_level_formats()) {
    const ElementFormat& e = format.element;
    for (const std::uint8_t code : oracle::codes_of(e)) {
      for (const float toward : {-kInfinity, kInfinity}) {
        std::vector<float> values = block_with_scale(e, 1);
        values[1] = std::nextafter(code_value(e, code), toward);
        if (std::fabs(values[1]) > e.largest()) continue;
        for (const std::uint32_t n : {0u, 1u, 32767u, 32768u, 65534u, 65535u}) {
          const Block block = one_level_block(values, e, std::vector<std::uint32_t>(16, n));
          EXPECT_EQ(block.codes[1], oracle::stochastic(e, values[1], n))
              << format.name << " " << values[1] << " n " << n;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ufp4::reference
