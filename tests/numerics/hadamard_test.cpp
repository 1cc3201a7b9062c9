#include "numerics/hadamard.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "ufp4/dtype.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr std::array<int, 4> kSizes{16, 32, 64, 128};

// Row x times S H_n / sqrt(n) by the definition: H_n[i][j] = (-1)^popcount(i & j), in FP64.
std::vector<double> matrix_product(const std::vector<float>& x, const Hadamard& hadamard) {
  const std::size_t n = x.size();
  const Signs& signs = hadamard.signs.value();
  std::vector<double> y(n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    const bool flip = ((signs[i / 32] >> (i % 32)) & 1u) != 0;
    const double v = flip ? -static_cast<double>(x[i]) : static_cast<double>(x[i]);
    for (std::size_t j = 0; j < n; ++j) y[j] += std::popcount(i & j) % 2 == 0 ? v : -v;
  }
  for (double& value : y) value /= std::sqrt(static_cast<double>(n));
  return y;
}

void expect_product(const std::vector<float>& x, const Hadamard& hadamard, double tolerance) {
  std::vector<float> y = x;
  apply_hadamard(y, hadamard);
  const std::vector<double> expected = matrix_product(x, hadamard);
  for (std::size_t j = 0; j < x.size(); ++j) {
    ASSERT_NEAR(static_cast<double>(y[j]), expected[j], tolerance)
        << "size " << x.size() << ", signs " << hadamard.signs.value()[0] << ", output " << j;
  }
}

TEST(Hadamard, EveryMaskOf16EqualsTheMatrixProduct) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> integer(-1000, 1000);
  std::vector<float> x(16);
  for (std::uint32_t mask = 0; mask < 65536; ++mask) {
    for (float& value : x) value = static_cast<float>(integer(random));
    expect_product(x, {16, Signs{mask, 0, 0, 0}}, 0);  // sums of small integers, times 1/4: exact
  }
}

TEST(Hadamard, ManyMasksOfEverySizeEqualTheMatrixProduct) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const int size : kSizes) {
    std::vector<float> x(static_cast<std::size_t>(size));
    for (int trial = 0; trial < 500; ++trial) {
      Signs signs{};
      for (int i = 0; i < size; i += 32) {
        signs[static_cast<std::size_t>(i / 32)] = static_cast<std::uint32_t>(random());
      }
      double norm = 0;
      for (float& value : x) {
        value = normal(random);
        norm += static_cast<double>(value) * static_cast<double>(value);
      }
      // log2(n) sums and a product, each with a relative error of 2^-24 of at most the vector's norm.
      expect_product(x, {size, signs}, std::sqrt(norm) * 9 * 0x1p-24);
    }
  }
}

TEST(Hadamard, UnitVectorsGiveTheSignedRows) {
  for (const int size : kSizes) {
    const Hadamard hadamard = make_hadamard(size, 7);
    for (int i = 0; i < size; ++i) {
      std::vector<float> x(static_cast<std::size_t>(size), 0.0F);
      x[static_cast<std::size_t>(i)] = 1;
      apply_hadamard(x, hadamard);
      const bool flip = ((hadamard.signs.value()[static_cast<std::size_t>(i / 32)] >> (i % 32)) & 1u) != 0;
      for (int j = 0; j < size; ++j) {
        const bool negative = (std::popcount(static_cast<unsigned>(i & j)) % 2 != 0) != flip;
        const float magnitude = static_cast<float>(1 / std::sqrt(static_cast<double>(size)));
        ASSERT_EQ(x[static_cast<std::size_t>(j)], negative ? -magnitude : magnitude) << size << " " << i << " " << j;
      }
    }
  }
}

TEST(Hadamard, SizeZeroDoesNothing) {
  std::vector<float> x{1, 2, 3};
  apply_hadamard(x, {});
  EXPECT_EQ(x, (std::vector<float>{1, 2, 3}));
}

TEST(Hadamard, MaskIsTheLowBitsOfPhilox) {
  // Philox with key (1, 0) and counter (0, 0, 0, 0xFFFFFFFF), from an independent program.
  const std::array<std::uint32_t, 4> words{0xF50C9398u, 0xB36CDAB2u, 0x436BDC89u, 0xCC49431Bu};
  EXPECT_EQ(make_hadamard(128, 1).signs, words);
  EXPECT_EQ(make_hadamard(16, 1).signs, (std::array<std::uint32_t, 4>{words[0] & 0xFFFFu, 0, 0, 0}));
  EXPECT_EQ(make_hadamard(32, 1).signs, (std::array<std::uint32_t, 4>{words[0], 0, 0, 0}));
  EXPECT_EQ(make_hadamard(64, 1).signs, (std::array<std::uint32_t, 4>{words[0], words[1], 0, 0}));
  EXPECT_NE(make_hadamard(128, 1).signs, make_hadamard(128, 2).signs);
  EXPECT_NE(make_hadamard(128, 1).signs, make_hadamard(128, std::uint64_t{1} << 32 | 1).signs);
  EXPECT_EQ(hadamard_signs(0, 1), (std::array<std::uint32_t, 4>{}));
  EXPECT_EQ(make_hadamard(0, 1), Hadamard{});
}

// A transform without signs of its own takes those of the seed of its place.
TEST(Hadamard, SignsThatAreNotGivenAreThoseOfTheSeed) {
  for (const int size : kSizes) {
    const OperandSpec spec{.hadamard = {.size = size}};
    EXPECT_EQ(signs_of(spec, {.seed = 9}), make_hadamard(size, 9).signs);
    EXPECT_EQ(hadamard_signs(size, 9), make_hadamard(size, 9).signs);
    const OperandSpec own{.hadamard = make_hadamard(size, 4)};
    EXPECT_EQ(signs_of(own, {.seed = 9}), make_hadamard(size, 4).signs);
    std::vector<float> x(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
    std::vector<float> y = x;
    apply_hadamard(x, {.size = size}, 9);
    apply_hadamard(y, make_hadamard(size, 9), 4);
    EXPECT_EQ(x, y);
  }
}

TEST(Hadamard, RefusesOtherSizes) {
  for (const int size : {-16, 1, 2, 8, 15, 17, 48, 256}) EXPECT_THROW(make_hadamard(size, 0), InputError) << size;
}

// TransformerEngine's transform for NVFP4: its signs as it writes them, and the result in BF16.
TEST(Hadamard, HasAPeersSignsAndRoundsToBf16) {
  constexpr std::array<int, 16> kSigns{1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1};
  Hadamard hadamard{16, Signs{0xD7E8}, true};
  std::array<float, 16> run{};
  for (std::size_t i = 0; i < 16; ++i) run[i] = static_cast<float>((i * 37 + 11) % 97) * 4;
  std::array<float, 16> expected{};
  for (std::size_t j = 0; j < 16; ++j) {
    int sum = 0;  // exact: a multiple of 4, to be divided by 4
    for (std::size_t i = 0; i < 16; ++i) {
      const int sign = std::popcount(i & j) % 2 == 0 ? kSigns[i] : -kSigns[i];
      sum += sign * static_cast<int>(run[i]);
    }
    expected[j] = bf16_to_float(float_to_bf16(static_cast<float>(sum) / 4));
  }
  apply_hadamard(run, hadamard);
  EXPECT_EQ(run, expected);
}

}  // namespace
}  // namespace ufp4
