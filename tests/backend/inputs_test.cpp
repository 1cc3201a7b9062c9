// Every value of the small input types, every tie and every code, through every format on every backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backend/every_backend.h"
#include "numerics/oracle.h"
#include "numerics/philox.h"
#include "one_level_formats.h"

namespace ufp4 {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using testing::Matrix;
using testing::quantize;
using testing::Results;
using testing::task_of;

UFP4_EVERY_BACKEND(Inputs);

// The bits of a float; every NaN counts as the same.
std::uint32_t bits_of(float value) { return std::isnan(value) ? 0x7FC00000u : std::bit_cast<std::uint32_t>(value); }

// Compares one operand without a transform with the oracle.
void expect_oracle(const Matrix& m, const Results& found) {
  const OperandSpec& spec = found.task.spec;
  const ElementFormat& e = spec.format->element;
  const std::int64_t block = spec.block_size();
  std::vector<float> t;
  for (std::int64_t r = 0; r < found.shape.rows; ++r) {
    for (std::int64_t first = 0; first < found.shape.columns; first += block) {
      std::vector<float> values;
      float amax = 0;
      bool finite = true;
      for (std::int64_t c = first; c < first + block; ++c) {
        values.push_back(c < found.shape.valid_columns ? m.get(r, c) : 0);
        finite = finite && std::isfinite(values.back());
        amax = std::max(amax, std::fabs(values.back()));
      }
      const bool quantized = finite && amax >= 0x1p-120F;
      const float scale = quantized ? oracle::scale_of(e, values, t) : finite ? 0 : std::nanf("");
      ASSERT_EQ(bits_of(found.scale(r, first / block)), bits_of(scale)) << spec.format->name << " row " << r;
      for (std::int64_t i = 0; i < block; ++i) {
        unsigned code = 0;
        const float at = quantized ? t[static_cast<std::size_t>(i)] : 0;
        if (spec.rounding == Rounding::kNearest) {
          code = oracle::nearest(e, at);
        } else {
          code = oracle::stochastic(
              e, at,
              philox::draw16(found.task.place, static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(first + i)));
        }
        ASSERT_EQ(found.code(r, first + i), code)
            << spec.format->name << " [" << r << ", " << first + i << "] = " << values[static_cast<std::size_t>(i)];
        ASSERT_EQ(bits_of(found.value(r, first + i)), bits_of(code_value(e, code) * scale)) << spec.format->name;
      }
    }
  }
}

// All 65,536 codes of BF16 and F16, in order: neighbours of the same magnitude share a block.
TEST_P(Inputs, EveryHalfInABlockOfItsNeighbours) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Matrix m(64, 1024, dtype);
    for (std::uint32_t i = 0; i < 65536; ++i) m.set_bits(i / 1024, i % 1024, i);
    for (const BlockFormat& format : one_level_formats()) {
      expect_oracle(m, quantize(backend(), m.view(), task_of(format)));
    }
  }
}

// And each beside an extreme of one, so that every exponent meets every level; the lower half of a row is its own
// place.
TEST_P(Inputs, EveryHalfBesideAnExtreme) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Matrix m(65536 / 14 + 1, 16, dtype);
    for (std::int64_t r = 0; r < m.rows; ++r) {
      m.set(r, 0, r % 2 == 0 ? 1.0F : -1.0F);
      for (std::int64_t c = 1; c < 15; ++c) {
        const auto bits = static_cast<std::uint16_t>(r * 14 + c - 1);
        const float value = dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
        // Beyond the extreme a value would take its place; the test above has those.
        if (std::fabs(value) <= 1) m.set_bits(r, c, bits);
      }
    }
    for (const BlockFormat& format : one_level_formats()) {
      for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
        expect_oracle(m, quantize(backend(), m.view(), task_of(format, rounding)));
      }
    }
  }
}

// The ends of the FP32 range, subnormals, ties and their neighbours at many scales, every format and rounding.
TEST_P(Inputs, EveryTieAndCodeAtManyScales) {
  for (const BlockFormat& format : one_level_formats()) {
    const ElementFormat& e = format.element;
    const std::vector<std::uint8_t> codes = oracle::codes_of(e);
    const bool full = e.code_kind == CodeKind::kFullTwosComplement;
    std::vector<float> points;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const float value = code_value(e, codes[i]);
      points.insert(points.end(), {value, std::nextafter(value, -kInfinity), std::nextafter(value, kInfinity)});
      if (i + 1 == codes.size()) break;
      const float middle = (value + code_value(e, codes[i + 1])) / 2;
      points.insert(points.end(), {middle, std::nextafter(middle, -kInfinity), std::nextafter(middle, kInfinity)});
    }
    points.insert(points.end(), {0x1p-149F, -0x1p-149F, -0.0F, 0x1p-20F});
    const float extreme = full ? 8 : e.largest();
    const int exponents[] = {-120, -119, -60, -1, 0, 1, 60, 120, 124};
    Matrix m(static_cast<std::int64_t>(2 * std::size(exponents)), static_cast<std::int64_t>(points.size()) * 16);
    for (std::int64_t r = 0; r < m.rows; ++r) {
      const float scale = std::ldexp(r % 2 == 0 ? 1.0F : -1.0F, exponents[r / 2]);
      for (std::size_t p = 0; p < points.size(); ++p) {
        // 15 lanes take the points in turn, so that each point meets every lane of a vector.
        const auto first = static_cast<std::int64_t>(p * 16);
        m.set(r, first, (full ? -extreme : extreme) * scale);
        for (std::size_t lane = 1; lane < 16; ++lane) {
          const float point = points[(p + lane) % points.size()];
          if (std::fabs(point) <= e.largest()) m.set(r, first + static_cast<std::int64_t>(lane), point * scale);
        }
      }
    }
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      expect_oracle(m, quantize(backend(), m.view(), task_of(format, rounding)));
    }
  }
}

TEST_P(Inputs, NoFormatGivesANegativeZeroOrACodeBeyondItsOwn) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Matrix m(64, 256);
  m.fill([&] { return normal(random) * 0.1F; });
  for (const BlockFormat& format : one_level_formats()) {
    std::array<bool, 16> allowed{};
    for (const std::uint8_t code : oracle::codes_of(format.element)) allowed[code] = true;
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      const Results operand = quantize(backend(), m.view(), task_of(format, rounding));
      for (std::int64_t r = 0; r < m.rows; ++r) {
        for (std::int64_t c = 0; c < m.columns; ++c) {
          ASSERT_TRUE(allowed[operand.code(r, c)]) << format.name << " code " << operand.code(r, c);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ufp4
