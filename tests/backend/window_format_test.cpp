// A second format of int4_p2's rule, with numbers of its own: what kernels know of a window comes from the format.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "backend/every_backend.h"
#include "numerics/hadamard.h"
#include "numerics/oracle.h"
#include "numerics/philox.h"

namespace ufp4 {
namespace {

using testing::Array;
using testing::describe;
using testing::Matrix;
using testing::quantize;
using testing::Results;
using testing::Values;

// int4_p2 with ten powers of two instead of fifteen.
BlockFormat narrow_format() {
  BlockFormat format = find_format("int4_p2");
  format.name = "int4_p2_narrow";
  format.outer_divisor = 56;  // 7 * 2^3
  format.window = {.least = -6, .largest = 3};
  format.outer_least = 0x1p-100F;
  return format;
}

const BlockFormat kNarrow = narrow_format();

UFP4_EVERY_BACKEND(EveryWindowFormat);

// What docs/numerics.md says of a block of int4_p2, in FP32 and in their order.
struct Expected {
  float scale = 0;
  float outer = 0;
  std::vector<std::uint8_t> codes;
  bool clipped = false;
};

Expected expected_block(std::span<const float> v, float amax, float tau, std::span<const std::uint32_t> n16) {
  Expected block;
  block.codes.assign(v.size(), 0);
  block.outer = amax < 0x1p-100F ? 0 : amax / 56;
  if (!std::all_of(v.begin(), v.end(), [](float x) { return std::isfinite(x); })) {
    block.scale = std::numeric_limits<float>::quiet_NaN();
    return block;
  }
  const float inverse = block.outer == 0 ? 0 : 1 / block.outer;
  const float positive = std::max(0.0F, *std::max_element(v.begin(), v.end()));
  const float negative = std::max(0.0F, -*std::min_element(v.begin(), v.end()));
  const float a = std::max(positive / 8, negative / 7);
  const float b = std::max(negative / 8, positive / 7);
  const float r = std::min(a, b) * inverse;
  constexpr std::array kPowers{0x1p-6F, 0x1p-5F, 0x1p-4F, 0x1p-3F, 0x1p-2F, 0x1p-1F, 1.0F, 2.0F, 4.0F, 8.0F};
  const auto fits = std::find_if(kPowers.begin(), kPowers.end(), [&](float p) { return p * tau >= r; });
  block.clipped = fits == kPowers.end();
  const float power = block.clipped ? 8.0F : *fits;
  block.scale = a < b ? -power : power;
  const float reciprocal = 1 / block.scale;  // exact
  for (std::size_t i = 0; i < v.size(); ++i) {
    // A value beyond the ends has the code of the end; far beyond, the search would find all codes equally far.
    const float t = std::clamp((v[i] * inverse) * reciprocal, -8.0F, 7.0F);
    block.codes[i] = n16.empty() ? oracle::nearest(kNarrow.element, t) : oracle::stochastic(kNarrow.element, t, n16[i]);
  }
  return block;
}

// Row r of the operand, padded and transformed.
std::vector<float> operand_row(const Matrix& m, const Results& found, std::int64_t r) {
  std::vector<float> row(static_cast<std::size_t>(found.shape.columns), 0.0F);
  const bool along_rows = found.task.place.axis == Axis::kRow;
  for (std::int64_t c = 0; c < found.shape.valid_columns; ++c) {
    row[static_cast<std::size_t>(c)] = along_rows ? m.get(r, c) : m.get(c, r);
  }
  const Hadamard& hadamard = found.task.spec.hadamard;
  const auto size = static_cast<std::size_t>(hadamard.size);
  for (std::size_t c = 0; size != 0 && c < row.size(); c += size) {
    apply_hadamard(std::span(row).subspan(c, size), hadamard, found.task.place.seed);
  }
  return row;
}

// The magnitudes that the second-level scales follow from, where the task does not give them.
std::vector<float> amax_of(const Matrix& m, const Results& found) {
  const OuterShape outer = outer_shape(found.shape, found.task.spec.outer_each());
  std::vector<float> amax(static_cast<std::size_t>(outer.rows * outer.columns), 0.0F);
  if (found.task.outer_amax != nullptr) {
    std::copy_n(found.task.outer_amax, amax.size(), amax.begin());
    return amax;
  }
  const std::int64_t block = found.task.spec.block_size();
  for (std::int64_t r = 0; r < found.shape.rows; ++r) {
    const std::vector<float> row = operand_row(m, found, r);
    for (std::int64_t first = 0; first < found.shape.columns; first += block) {
      float largest = 0;
      bool finite = true;
      for (std::int64_t c = first; c < first + block; ++c) {
        const float value = row[static_cast<std::size_t>(c)];
        finite = finite && std::isfinite(value);
        largest = std::max(largest, std::fabs(value));
      }
      float& here = amax[static_cast<std::size_t>(outer.index(r, first))];
      if (finite) here = std::max(here, largest);
    }
  }
  return amax;
}

std::uint32_t bits_of(float value) { return std::isnan(value) ? 0x7FC00000u : std::bit_cast<std::uint32_t>(value); }

// All results of the reference against the lines above.
void expect_lines(const Matrix& m, const Results& found) {
  const OperandSpec& spec = found.task.spec;
  const Place& place = found.task.place;
  const auto block = static_cast<std::size_t>(spec.block_size());
  const bool nearest = spec.rounding == Rounding::kNearest;
  const float tau = spec.options.tau != 0 ? spec.options.tau : nearest ? 1.125F : 1.0F;
  const OuterShape outer = outer_shape(found.shape, spec.outer_each());
  const std::vector<float> amax = amax_of(m, found);
  std::uint32_t clipped = 0;
  for (std::int64_t r = 0; r < found.shape.rows; ++r) {
    const std::vector<float> row = operand_row(m, found, r);
    for (std::size_t first = 0; first < row.size(); first += block) {
      std::vector<std::uint32_t> n16;
      for (std::size_t i = 0; i < block && !nearest; ++i) {
        n16.push_back(philox::draw16(place, place.row_number(static_cast<std::uint32_t>(r)),
                                     static_cast<std::uint32_t>(first + i) + place.column_offset));
      }
      const auto group = static_cast<std::size_t>(outer.index(r, static_cast<std::int64_t>(first)));
      const Expected expected = expected_block(std::span(row).subspan(first, block), amax[group], tau, n16);
      clipped += expected.clipped ? 1 : 0;
      ASSERT_EQ(bits_of(found.outer_scales()[group]), bits_of(expected.outer));
      const bool apart = spec.outer_each() == OuterScale::kTensor;
      const float scale = apart ? expected.scale : expected.scale * expected.outer;
      ASSERT_EQ(bits_of(found.scale(r, static_cast<std::int64_t>(first / block))), bits_of(scale)) << r << " " << first;
      const std::size_t number = static_cast<std::size_t>(r) * row.size() / block + first / block;
      ASSERT_EQ(found.of<std::uint8_t>(Array::kPackedScales)[number],
                std::isnan(expected.scale) ? 0x7F : float_to_e4m3(expected.scale));
      for (std::size_t i = 0; i < block; ++i) {
        const auto c = static_cast<std::int64_t>(first + i);
        ASSERT_EQ(found.code(r, c), expected.codes[i]) << "[" << r << ", " << c << "] = " << row[first + i];
        const float level = code_value(kNarrow.element, expected.codes[i]);
        const float value = level * scale * (apart ? expected.outer : 1);
        ASSERT_EQ(bits_of(found.value(r, c)), bits_of(value)) << "[" << r << ", " << c << "]";
        const std::uint8_t e4m3 =
            found.of<std::uint8_t>(Array::kE4m3)[static_cast<std::size_t>(r) * row.size() + first + i];
        if (std::isnan(expected.scale)) {
          ASSERT_EQ(e4m3, 0x7F);
        } else {
          ASSERT_EQ(bits_of(e4m3_to_float(e4m3)), bits_of(level * expected.scale)) << "the byte is exact";
        }
      }
    }
  }
  ASSERT_EQ(found.clipped(), clipped);
}

QuantizeTask random_narrow_task(std::mt19937& random) {
  QuantizeTask task = testing::random_task(random, {&kNarrow, 1});
  if (task.spec.hadamard.size > 32) task.spec.hadamard.size = 0;
  return task;
}

constexpr std::array kAllValues{Values::kNormal, Values::kUneven, Values::kTies, Values::kHostile, Values::kPatches};

TEST(WindowFormat, TheReferenceHasTheBitsOfTheLines) {
  std::mt19937 random(1);
  for (int i = 0; i < 120; ++i) {
    const QuantizeTask task = random_narrow_task(random);
    const Matrix m = testing::make_matrix(1 + static_cast<std::int64_t>(random() % 40),
                                          1 + static_cast<std::int64_t>(random() % 200), testing::random_dtype(random),
                                          kAllValues[static_cast<std::size_t>(i) % kAllValues.size()], random());
    SCOPED_TRACE(describe(m.view(), task));
    expect_lines(m, quantize(find_backend("scalar"), m.view(), task, {.e4m3 = true, .window = true}));
    if (HasFatalFailure()) return;
  }
}

// An amax that is less than it is, far more than it is, and at the boundary below which nothing is left.
TEST(WindowFormat, TheReferenceHasThemForAnyAmax) {
  const Matrix m = testing::make_matrix(9, 100, DType::kF32, Values::kUneven, 4);
  for (const Rounding rounding : testing::kRoundings) {
    for (const float amax : {0.0F, 0x1.fffffep-101F, 0x1p-100F, 0.01F, 3.0F, 1e5F, 3e38F}) {
      QuantizeTask task = testing::task_of(kNarrow, rounding);
      task.outer_amax = &amax;
      SCOPED_TRACE(amax);
      const Results found = quantize(find_backend("scalar"), m.view(), task, {.e4m3 = true, .window = true});
      expect_lines(m, found);
      if (HasFatalFailure()) return;
      EXPECT_EQ(found.outer_scales()[0] == 0, amax < 0x1p-100F);
      if (amax == 0.01F) {
        EXPECT_GT(found.clipped(), 0u);
      }
    }
  }
}

// Its scales are of its window, which int4_p2's are not.
TEST(WindowFormat, DiffersFromTheFormatOfTheTable) {
  const Matrix m = testing::make_matrix(64, 256, DType::kF32, Values::kUneven, 5);
  const Results narrow = quantize(find_backend("scalar"), m.view(), testing::task_of(kNarrow));
  const Results wide = quantize(find_backend("scalar"), m.view(), testing::task_of("int4_p2"));
  const auto magnitudes = [](const Results& results) {
    std::pair<float, float> ends{INFINITY, 0};
    for (const float scale : results.scales()) {
      ends = {std::min(ends.first, std::fabs(scale)), std::max(ends.second, std::fabs(scale))};
    }
    return ends;
  };
  EXPECT_GE(magnitudes(narrow).first, 0x1p-6F);
  EXPECT_LE(magnitudes(narrow).second, 8);
  EXPECT_GT(magnitudes(wide).second, 8);
  EXPECT_TRUE(kNarrow.has_window());
  EXPECT_NO_THROW(validate(OperandSpec{.format = &kNarrow, .outer = {.amax = AmaxSource::kDelayed}}));
}

TEST_P(EveryWindowFormat, HasTheBitsOfTheReference) {
  const Backend& scalar = find_backend("scalar");
  std::mt19937 random(2);
  for (int i = 0; i < 150; ++i) {
    const QuantizeTask task = testing::random_task(random, {&kNarrow, 1});
    const Matrix m = testing::make_matrix(1 + static_cast<std::int64_t>(random() % 150),
                                          1 + static_cast<std::int64_t>(random() % 500), testing::random_dtype(random),
                                          kAllValues[static_cast<std::size_t>(i) % kAllValues.size()], random(),
                                          {.padding = i % 3, .shift = i % 2});
    const Results found = quantize(backend(), m.view(), task);
    ASSERT_EQ(first_difference(found, quantize(scalar, m.view(), task)), "") << describe(m.view(), task);
    // And back, from either kind of scales.
    for (const ConstQuantized& operand : {found.operand(), found.packed_operand()}) {
      std::vector<float> values(found.of<float>(Array::kValues).size());
      backend().dequantize(operand, values.data(), DType::kF32);
      ASSERT_EQ(testing::first_difference("values", values, found.of<float>(Array::kValues), found.shape.rows), "")
          << describe(m.view(), task);
    }
  }
}

// Blocks of every size beside one that sets the second-level scale: both ends of the window and beyond.
TEST_P(EveryWindowFormat, EveryMagnitudeBelowASecondLevelScale) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const int largest : {-135, -101, -99, -60, 0, 60, 126}) {
    Matrix m(1, 5760);  // 40 times 144
    std::int64_t at = 0;
    for (int exponent = largest; exponent > largest - 40; --exponent) {
      for (int i = 0; i < 128; ++i) m.set(0, at++, std::ldexp(normal(random) / 3, exponent));
      for (int i = 0; i < 16; ++i) m.set(0, at++, std::ldexp(static_cast<float>(i % 9), exponent - 3));
    }
    for (const Rounding rounding : testing::kRoundings) {
      for (const int hadamard : {0, 16}) {
        for (const float part : {0.0F, 0.25F, 1.0F, 1024.0F}) {  // of the largest value; 0: what the matrix has
          QuantizeTask task = testing::task_of(kNarrow, rounding, hadamard);
          const float amax = std::ldexp(part, largest);
          task.outer_amax = part == 0 ? nullptr : &amax;
          const Results expected = quantize(find_backend("scalar"), m.view(), task);
          ASSERT_EQ(first_difference(quantize(backend(), m.view(), task), expected), "")
              << "2^" << largest << " " << amax << " " << describe(m.view(), task);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ufp4
