// int4_i4 and a second format of its rule, with numbers of its own: the reference against the lines of
// docs/numerics.md, and every backend against the reference where m changes and at the ends of FP32.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <span>
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

// Seven integers instead of fifteen, which are lowered less.
BlockFormat narrow_format() {
  BlockFormat format = find_format("int4_i4");
  format.name = "int4_i4_narrow";
  format.outer_divisor = 7;
  format.outer_least = 0x1p-100F;
  format.own_outer = OuterScale::k1x128;
  format.integers = {.lowered = 0.0625F, .most_lowered = 0.25F, .least = 0x1p-110F};
  return format;
}

const std::array<BlockFormat, 2> kFormats{find_format("int4_i4"), narrow_format()};

UFP4_EVERY_BACKEND(EveryIntegerFormat);

// The numbers of a format once more, apart from its row.
struct Numbers {
  float largest, outer_least, lowered, most_lowered, least;
};

constexpr std::array<Numbers, 2> kNumbers{
    {{15, 0x1p-110F, 0.09375F, 0.5F, 0x1p-120F}, {7, 0x1p-100F, 0.0625F, 0.25F, 0x1p-110F}}};

struct Segment {
  float largest = 0;  // F
  bool finite = true;
};

bool finite(std::span<const float> v) {
  return std::all_of(v.begin(), v.end(), [](float x) { return std::isfinite(x); });
}

// a and b of the block; f is the less.
std::array<float, 2> both_scales(std::span<const float> v) {
  const float positive = std::max(0.0F, *std::max_element(v.begin(), v.end()));
  const float negative = std::max(0.0F, -*std::min_element(v.begin(), v.end()));
  return {std::max(positive / 8, negative / 7), std::max(negative / 8, positive / 7)};
}

// +-m; 0 where all codes are 0.
int integer_of(std::span<const float> v, const Segment& segment, const Numbers& numbers, bool nearest) {
  if (!finite(v) || segment.largest < numbers.outer_least) return 0;
  const auto [a, b] = both_scales(v);
  const float f = std::min(a, b);
  if (f < numbers.least) return 0;
  const float r = f * (numbers.largest / segment.largest);
  const float by = std::min(numbers.most_lowered, r * numbers.lowered);
  const float m = std::clamp(std::ceil(nearest ? r - by : r), 1.0F, numbers.largest);
  return static_cast<int>(a < b ? -m : m);
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

std::vector<Segment> segments_of(std::span<const float> row, std::size_t length, std::size_t block) {
  std::vector<Segment> segments((row.size() + length - 1) / length);
  for (std::size_t first = 0; first < row.size(); first += block) {
    Segment& here = segments[first / length];
    const auto v = row.subspan(first, block);
    if (!finite(v)) {
      here.finite = false;
      continue;
    }
    const auto [a, b] = both_scales(v);
    here.largest = std::max(here.largest, std::min(a, b));
  }
  return segments;
}

float outer_of(const Segment& segment, const Numbers& numbers) {
  if (!segment.finite) return std::numeric_limits<float>::quiet_NaN();
  return segment.largest < numbers.outer_least ? 0 : segment.largest / numbers.largest;
}

std::uint32_t bits_of(float value) { return std::isnan(value) ? 0x7FC00000u : std::bit_cast<std::uint32_t>(value); }

// All results of the reference against the lines above.
void expect_lines(const Matrix& m, const Results& found, const Numbers& numbers) {
  const OperandSpec& spec = found.task.spec;
  const Place& place = found.task.place;
  const auto block = static_cast<std::size_t>(spec.block_size());
  const bool nearest = spec.rounding == Rounding::kNearest;
  const auto columns = static_cast<std::size_t>(found.shape.columns);
  const std::int64_t of_segment = columns_of(spec.outer_each());
  const std::size_t length = of_segment == 0 ? columns : static_cast<std::size_t>(of_segment);
  const std::size_t segments_per_row = (columns + length - 1) / length;
  ASSERT_EQ(found.outer_scales().size(), segments_per_row * static_cast<std::size_t>(found.shape.rows));
  for (std::int64_t r = 0; r < found.shape.rows; ++r) {
    const std::vector<float> row = operand_row(m, found, r);
    const std::vector<Segment> segments = segments_of(row, length, block);
    const std::size_t row_begin = static_cast<std::size_t>(r) * columns;
    for (std::size_t s = 0; s < segments.size(); ++s) {
      ASSERT_EQ(bits_of(found.outer_scales()[static_cast<std::size_t>(r) * segments_per_row + s]),
                bits_of(outer_of(segments[s], numbers)))
          << "segment " << s << " of row " << r;
    }
    for (std::size_t first = 0; first < columns; first += block) {
      const auto v = std::span(row).subspan(first, block);
      const Segment& segment = segments[first / length];
      const int multiple = integer_of(v, segment, numbers, nearest);
      const std::size_t number = (row_begin + first) / block;
      ASSERT_EQ(found.scales()[number], static_cast<float>(multiple)) << "[" << r << ", " << first << "]";
      ASSERT_EQ(static_cast<std::int8_t>(found.of<std::uint8_t>(Array::kPackedScales)[number]), multiple);
      const float inverse = numbers.largest / segment.largest;
      const float of_m = (multiple < 0 ? -1.0F : 1.0F) * (1 / std::fabs(static_cast<float>(multiple)));
      for (std::size_t i = 0; i < block; ++i) {
        std::uint8_t code = 0;
        if (multiple != 0) {
          // A value beyond the ends has the code of the end.
          const float t = std::clamp((v[i] * inverse) * of_m, -8.0F, 7.0F);
          code = nearest
                     ? oracle::nearest(spec.format->element, t)
                     : oracle::stochastic(spec.format->element, t,
                                          philox::draw16(place, place.row_number(static_cast<std::uint32_t>(r)),
                                                         static_cast<std::uint32_t>(first + i) + place.column_offset));
        }
        const auto c = static_cast<std::int64_t>(first + i);
        ASSERT_EQ(found.code(r, c), code) << "[" << r << ", " << c << "] = " << v[i];
        const int integer = (code < 8 ? code : code - 16) * multiple;
        ASSERT_EQ(found.of<std::int8_t>(Array::kInt8)[row_begin + first + i], integer);
        const float value = static_cast<float>(integer) * outer_of(segment, numbers);
        ASSERT_EQ(bits_of(found.value(r, c)), bits_of(value)) << "[" << r << ", " << c << "]";
      }
    }
  }
}

constexpr std::array kAllValues{Values::kNormal, Values::kUneven, Values::kTies, Values::kHostile, Values::kPatches};

TEST(IntegerFormat, TheReferenceHasTheBitsOfTheLines) {
  std::mt19937 random(1);
  for (int i = 0; i < 120; ++i) {
    const auto which = static_cast<std::size_t>(i % 2);
    const QuantizeTask task = testing::random_task(random, {&kFormats[which], 1});
    const bool column = task.place.axis == Axis::kColumn;
    const auto length = 1 + static_cast<std::int64_t>(random() % 1300);
    const auto count = 1 + static_cast<std::int64_t>(random() % 12);
    const Matrix m =
        testing::make_matrix(column ? length : count, column ? count : length, testing::random_dtype(random),
                             kAllValues[static_cast<std::size_t>(i) % kAllValues.size()], random());
    SCOPED_TRACE(describe(m.view(), task));
    expect_lines(m, quantize(find_backend("scalar"), m.view(), task), kNumbers[which]);
    if (HasFatalFailure()) return;
  }
}

TEST_P(EveryIntegerFormat, HasTheBitsOfTheReference) {
  const Backend& scalar = find_backend("scalar");
  std::mt19937 random(2);
  for (int i = 0; i < 150; ++i) {
    const QuantizeTask task = testing::random_task(random, {&kFormats[static_cast<std::size_t>(i % 2)], 1});
    const bool column = task.place.axis == Axis::kColumn;
    const auto length = 1 + static_cast<std::int64_t>(random() % 2500);
    const auto count = 1 + static_cast<std::int64_t>(random() % 70);
    const Matrix m = testing::make_matrix(
        column ? length : count, column ? count : length, testing::random_dtype(random),
        kAllValues[static_cast<std::size_t>(i) % kAllValues.size()], random(), {.padding = i % 3, .shift = i % 2});
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

// Blocks that ask for every integer, and for the neighbours of what makes it one more, under a segment of any size; and
// values at the ties between codes, and their neighbours.
TEST_P(EveryIntegerFormat, EveryIntegerAndItsNeighbours) {
  for (std::size_t which = 0; which < kFormats.size(); ++which) {
    const Numbers& numbers = kNumbers[which];
    for (const int exponent : {-109, -97, -60, 0, 60, 120}) {
      std::vector<float> row;
      const float unit = std::ldexp(1.0F, exponent);  // an integer in this segment
      const auto add_block = [&](float asked, float other) {
        for (int i = 0; i < 16; ++i) row.push_back(i == 0 ? -8 * unit * asked : other * unit * static_cast<float>(i));
      };
      add_block(numbers.largest, 0.25F);  // sets the scale
      for (float m = 0; m <= numbers.largest; ++m) {
        // r - min(most, r * lowered) = m, to nearest; r = m, stochastically.
        const float by_part = m / (1 - numbers.lowered);
        for (const float r : {m, by_part, m + numbers.most_lowered}) {
          float near = std::nextafter(std::nextafter(r, 0.0F), 0.0F);
          for (int i = 0; i < 5; ++i, near = std::nextafter(near, 1e3F)) add_block(near, -0.3F);
        }
        for (float code = -8.5F; code <= 8; code += 0.5F) {
          add_block(m, 0);
          for (std::size_t i = 1; i < 16; ++i) {
            const float tie = code * m * unit;
            row[row.size() - i] = i % 3 == 0 ? tie : std::nextafter(tie, i % 3 == 1 ? -INFINITY : INFINITY);
          }
        }
      }
      Matrix m(1, static_cast<std::int64_t>(row.size()));
      m.fill([&, at = std::size_t{0}]() mutable { return row[at++]; });
      const Matrix column = testing::transposed(m);
      for (const Rounding rounding : testing::kRoundings) {
        for (const OuterScale each : {OuterScale::kRow, OuterScale::k1x128}) {
          QuantizeTask task = testing::task_of(kFormats[which], rounding);
          task.spec.outer.each = each;
          SCOPED_TRACE(describe(m.view(), task) + " 2^" + std::to_string(exponent));
          const Results expected = quantize(find_backend("scalar"), m.view(), task);
          ASSERT_EQ(first_difference(quantize(backend(), m.view(), task), expected), "");
          if (backend().name() == "scalar") expect_lines(m, expected, numbers);
          task.place.axis = Axis::kColumn;
          ASSERT_EQ(first_difference(quantize(backend(), column.view(), task), expected), "");
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// The largest and the least that FP32 has, segments and blocks at the boundary below which they are zero, and blocks
// that are not finite, alone in a segment and beside others.
TEST_P(EveryIntegerFormat, TheEndsOfTheRange) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kLeast = std::numeric_limits<float>::denorm_min();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> row;
  const auto add = [&](float first, float rest) {
    row.push_back(first);
    row.insert(row.end(), 15, rest);
  };
  for (const float beside : {0.0F, kMax, 1.0F, 0x1p-105F, 0x1p-118F}) {
    for (const float special : {kMax, -kMax, kLeast, -0x1p-126F, kNan, INFINITY, -INFINITY, -0.0F}) {
      for (int i = 0; i < 7; ++i) add(beside, -beside * 0.4F);
      add(special, 0);
    }
    for (const int exponent : {-97, -98, -107, -108, -117, -118}) {  // f = 2^(exponent - 3)
      for (const float f : {std::ldexp(1.0F, exponent), std::nextafter(std::ldexp(1.0F, exponent), 0.0F)}) {
        for (int i = 0; i < 7; ++i) add(0, 0);
        add(-f, f / 4);
        add(beside, 0);
        for (int i = 0; i < 6; ++i) add(0, 0);
        add(-f, f / 4);
      }
    }
  }
  Matrix m(1, static_cast<std::int64_t>(row.size()));
  m.fill([&, at = std::size_t{0}]() mutable { return row[at++]; });
  for (std::size_t which = 0; which < kFormats.size(); ++which) {
    for (const Rounding rounding : testing::kRoundings) {
      for (const int hadamard : {0, 16, 32}) {
        QuantizeTask task = testing::task_of(kFormats[which], rounding, hadamard);
        task.spec.outer.each = OuterScale::k1x128;
        SCOPED_TRACE(describe(m.view(), task));
        const Results expected = quantize(find_backend("scalar"), m.view(), task);
        ASSERT_EQ(first_difference(quantize(backend(), m.view(), task), expected), "");
        if (backend().name() == "scalar") expect_lines(m, expected, kNumbers[which]);
        if (HasFatalFailure()) return;
        const auto outer = expected.outer_scales();
        EXPECT_TRUE(std::any_of(outer.begin(), outer.end(), [](float s) { return std::isnan(s); }));
        EXPECT_TRUE(std::find(outer.begin(), outer.end(), 0.0F) != outer.end());
      }
    }
  }
}

}  // namespace
}  // namespace ufp4
