// What the analysis does in SIMD against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "analysis/code_sums.h"
#include "analysis/transform.h"
#include "numerics/hadamard.h"

namespace ufp4::analysis {
namespace {

TEST(Transform, HasTheBitsOfTheReference) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int size : {0, 16, 32, 64, 128}) {
    std::vector<float> values(std::size_t{128} * 9);
    for (float& value : values) value = normal(random);
    std::vector<float> expected = values;
    const Hadamard hadamard = make_hadamard(size, 5);
    for (std::size_t i = 0; size != 0 && i < expected.size(); i += static_cast<std::size_t>(size)) {
      apply_hadamard(std::span(expected).subspan(i, static_cast<std::size_t>(size)), hadamard);
    }
    transform_runs(values, hadamard);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), values.size() * sizeof(float)), 0) << size;
  }
}

TEST(CodeSums, AreThoseOfAPlainLoop) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const CodeKind kind : {CodeKind::kSignMagnitude, CodeKind::kTwosComplement, CodeKind::kFullTwosComplement}) {
    for (const std::size_t block : {16U, 64U, 128U}) {
      const std::size_t blocks = 150;  // beyond one stretch of FP32 sums
      const std::size_t count = blocks * block;
      std::vector<float> values(count);
      std::vector<float> images(count);
      std::vector<std::uint8_t> codes(count / 2);
      std::vector<double> inverse(blocks);
      for (float& value : values) value = normal(random);
      for (float& value : images) value = normal(random);
      for (std::uint8_t& byte : codes) byte = static_cast<std::uint8_t>(random());
      for (double& value : inverse) value = 1 + static_cast<double>(random() % 100) / 10;
      CodeSums expected;
      for (std::size_t i = 0; i < count; ++i) {
        const auto x = static_cast<double>(values[i]);
        const auto q = static_cast<double>(images[i]);
        const double t = x * inverse[i / block];
        const unsigned code = codes[i / 2] >> (4 * (i % 2)) & 15u;
        expected.xx += x * x;
        expected.xq += x * q;
        expected.qq += q * q;
        expected.clamped += t < -5 || t > 4 ? 1 : 0;
        ++expected.count[code];
        expected.magnitude[kind == CodeKind::kSignMagnitude ? code & 7u : std::min(code, 16 - code)] += std::fabs(t);
      }
      CodeSums sums;
      add({values.data(), images.data(), codes.data(), inverse.data(), blocks, block, kind, -5, 4}, sums);
      EXPECT_NEAR(sums.xx, expected.xx, 1e-9 * expected.xx);
      EXPECT_NEAR(sums.xq, expected.xq, 1e-9 * expected.xx);
      EXPECT_NEAR(sums.qq, expected.qq, 1e-9 * expected.qq);
      EXPECT_EQ(sums.clamped, expected.clamped);
      EXPECT_EQ(sums.count, expected.count);
      for (std::size_t k = 0; k < expected.magnitude.size(); ++k) {
        EXPECT_NEAR(sums.magnitude[k], expected.magnitude[k], 1e-5 * expected.magnitude[k]) << k;
      }
    }
  }
}

}  // namespace
}  // namespace ufp4::analysis
