// What must hold for any shape, seed and data.
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
#include "one_level_formats.h"

namespace ufp4 {
namespace {

using testing::describe;
using testing::Matrix;
using testing::quantize;
using testing::Results;
using testing::task_of;

UFP4_EVERY_BACKEND(Property);

constexpr int kTrials = 60;

struct Case {
  Matrix m;
  QuantizeTask task;
};

// A random shape, type, specification and distribution, sometimes with zeros, huge values, NaN or infinities.
Case random_case(std::mt19937& random) {
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const DType dtype = testing::random_dtype(random);
  const auto rows = 1 + pick(70);
  Case c{Matrix(rows, 1 + pick(300), dtype), testing::random_task(random, one_level_formats())};
  c.task.place.seed = (std::uint64_t{random()} << 32) | random();
  c.task.place.row_offset = static_cast<std::uint32_t>(random());
  c.task.place.column_offset = static_cast<std::uint32_t>(random());
  std::student_t_distribution<float> heavy(3);
  const int exponent = pick(3) == 0 ? pick(30) - 15 : 0;
  c.m.fill([&] { return std::ldexp(heavy(random), exponent); });
  const float bad[] = {std::nanf(""), INFINITY, -INFINITY, 0, -0.0F, 3e38F, -3e38F, 0x1p-130F};
  for (int i = pick(2) * pick(5); i > 0; --i) {
    c.m.set(pick(static_cast<int>(c.m.rows)), pick(static_cast<int>(c.m.columns)), bad[pick(8)]);
  }
  if (pick(4) == 0) {
    const int row = pick(static_cast<int>(c.m.rows));
    for (std::int64_t k = 0; k < c.m.columns; ++k) c.m.set(row, k, 0);
  }
  return c;
}

// The cases, each with a trace that names it.
template <typename Check>
void for_random_cases(unsigned seed, Check check) {
  std::mt19937 random(seed);
  for (int trial = 0; trial < kTrials; ++trial) {
    const Case c = random_case(random);
    SCOPED_TRACE(::testing::Message() << "trial " << trial << ": " << describe(c.m.view(), c.task));
    check(c);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(Property, EqualsTheReference) {
  for_random_cases(1, [&](const Case& c) {
    const Results expected = quantize(find_backend("scalar"), c.m.view(), c.task);
    ASSERT_EQ(first_difference(quantize(backend(), c.m.view(), c.task), expected), "");
  });
}

TEST_P(Property, ColumnOfAMatrixIsRowOfItsTranspose) {
  for_random_cases(2, [&](const Case& c) {
    QuantizeTask other = c.task;
    other.place.axis = c.task.place.axis == Axis::kRow ? Axis::kColumn : Axis::kRow;
    const Results a = quantize(backend(), c.m.view(), c.task);
    const Results b = quantize(backend(), transposed(c.m).view(), other);
    ASSERT_EQ(a.shape.rows, b.shape.rows);
    ASSERT_EQ(a.shape.columns, b.shape.columns);
    ASSERT_EQ(first_difference(a, b), "");
  });
}

TEST_P(Property, PaddingIsZeros) {
  for_random_cases(3, [&](const Case& c) {
    const Results a = quantize(backend(), c.m.view(), c.task);
    const bool row = c.task.place.axis == Axis::kRow;
    Matrix padded(row ? c.m.rows : a.shape.columns, row ? a.shape.columns : c.m.columns, c.m.dtype);
    for (std::int64_t r = 0; r < c.m.rows; ++r) {
      for (std::int64_t k = 0; k < c.m.columns; ++k) padded.set(r, k, c.m.get(r, k));
    }
    ASSERT_EQ(first_difference(a, quantize(backend(), padded.view(), c.task)), "");
  });
}

TEST_P(Property, HalfInputsCountAsTheirFp32Values) {
  for_random_cases(4, [&](const Case& c) {
    Matrix wide(c.m.rows, c.m.columns);
    for (std::int64_t r = 0; r < c.m.rows; ++r) {
      for (std::int64_t k = 0; k < c.m.columns; ++k) wide.set(r, k, c.m.get(r, k));
    }
    const Results expected = quantize(backend(), wide.view(), c.task);
    ASSERT_EQ(first_difference(quantize(backend(), c.m.view(), c.task), expected), "");
  });
}

TEST_P(Property, DequantizeGivesWhatQuantizeWrote) {
  for_random_cases(5, [&](const Case& c) {
    const Results a = quantize(backend(), c.m.view(), c.task);
    const std::span<const float> values = a.of<float>(testing::Array::kValues);
    std::vector<float> f32(values.size());
    std::vector<std::uint16_t> bf16(f32.size());
    backend().dequantize(a.operand(), f32.data(), DType::kF32);
    backend().dequantize(a.operand(), bf16.data(), DType::kBF16);
    const Results direct = quantize(backend(), c.m.view(), c.task, {.values = DType::kBF16});
    ASSERT_EQ(testing::first_difference("values", f32, values, a.shape.rows), "");
    std::vector<std::uint16_t> rounded(f32.size());
    std::transform(f32.begin(), f32.end(), rounded.begin(), float_to_bf16);
    const std::span<const std::uint16_t> direct_values = direct.of<std::uint16_t>(testing::Array::kValues);
    ASSERT_EQ(testing::first_difference("dequantized values", bf16, rounded, a.shape.rows), "");
    ASSERT_EQ(testing::first_difference("direct values", direct_values, rounded, a.shape.rows), "");
  });
}

TEST_P(Property, TasksOfOneCallAreAsCallsOfTheirOwn) {
  for_random_cases(6, [&](const Case& c) {
    QuantizeTask other = c.task;
    other.place.axis = c.task.place.axis == Axis::kRow ? Axis::kColumn : Axis::kRow;
    other.spec.rounding = Rounding::kStochastic;
    other.place.stream += 1;
    Results a(c.m.view(), c.task);
    Results b(c.m.view(), other);
    float outer_scale = 0;
    QuantizeTask only_outer = c.task;
    only_outer.out.outer_scales = &outer_scale;
    const std::array tasks{a.writing(), b.writing(), only_outer};
    backend().quantize(c.m.view(), tasks);
    ASSERT_EQ(first_difference(a, quantize(backend(), c.m.view(), c.task)), "");
    ASSERT_EQ(first_difference(b, quantize(backend(), c.m.view(), other)), "");
    ASSERT_EQ(outer_scale, 1);
  });
}

TEST_P(Property, CodesDoNotChangeUnderPowersOfTwo) {
  for_random_cases(7, [&](const Case& c) {
    if (c.m.dtype != DType::kF32) return;
    // Moderate data, so that nothing over- or underflows.
    Matrix m = c.m;
    m.transform([](float value) { return std::isfinite(value) && std::fabs(value) < 1e6F ? value : 1.5F; });
    m.transform([](float value) { return std::fabs(value) < 1e-6F ? 0 : value; });
    Matrix scaled = m;
    scaled.transform([](float value) { return std::ldexp(value, -40); });
    const Results a = quantize(backend(), m.view(), c.task);
    const Results b = quantize(backend(), scaled.view(), c.task);
    ASSERT_TRUE(std::ranges::equal(a.codes(), b.codes()));
    for (std::size_t i = 0; i < a.scales().size(); ++i) ASSERT_EQ(std::ldexp(a.scales()[i], -40), b.scales()[i]) << i;
  });
}

TEST_P(Property, UniformGridsAgree) {
  for_random_cases(8, [&](const Case& c) {
    QuantizeTask task = c.task;
    task.spec.format = &find_format("e1m2");
    const Results e1m2 = quantize(backend(), c.m.view(), task);
    for (const char* name : {"int4", "e0m3"}) {
      task.spec.format = &find_format(name);
      const Results other = quantize(backend(), c.m.view(), task);
      for (std::int64_t r = 0; r < other.shape.rows; ++r) {
        for (std::int64_t k = 0; k < other.shape.columns; ++k) {
          ASSERT_EQ(4 * code_value(find_format("e1m2").element, e1m2.code(r, k)),
                    code_value(task.spec.format->element, other.code(r, k)))
              << name << " [" << r << ", " << k << "]";
        }
      }
      ASSERT_EQ(testing::first_difference("values", other.of<float>(testing::Array::kValues),
                                          e1m2.of<float>(testing::Array::kValues), e1m2.shape.rows),
                "")
          << name;
    }
  });
}

// A NaN or an infinity spoils its own block, or the blocks of its transform, and nothing else.
TEST_P(Property, NonFiniteValuesStayInTheirBlocks) {
  for (const BlockFormat& format : one_level_formats()) {
    for (const int hadamard : {0, 16, 64}) {
      for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        constexpr int kColumns = 256;
        Matrix m(3, kColumns);
        for (int i = 0; i < 3 * kColumns; ++i) m.set(i / kColumns, i % kColumns, static_cast<float>(i % 7) - 3);
        const QuantizeTask task = task_of(format, Rounding::kNearest, hadamard);
        const Results clean = quantize(backend(), m.view(), task);
        m.set(1, 70, bad);
        const Results found = quantize(backend(), m.view(), task);
        const std::int64_t unit = std::max(format.block, hadamard);
        for (std::int64_t r = 0; r < 3; ++r) {
          for (std::int64_t c = 0; c < kColumns; ++c) {
            if (r == 1 && c / unit == 70 / unit) {
              ASSERT_TRUE(std::isnan(found.value(r, c))) << format.name << " " << c;
              ASSERT_EQ(found.code(r, c), 0u);
            } else {
              ASSERT_EQ(std::bit_cast<std::uint32_t>(found.value(r, c)),
                        std::bit_cast<std::uint32_t>(clean.value(r, c)))
                  << format.name << " " << r << " " << c;
            }
          }
        }
      }
    }
  }
}

TEST_P(Property, BlocksBelowTheBoundaryAreZero) {
  for (const BlockFormat& format : one_level_formats()) {
    const std::int64_t block = format.block;
    Matrix m(1, 4 * block);
    for (std::int64_t c = 0; c < block; ++c) {
      m.set(0, c, std::nextafter(0x1p-120F, 0.0F));
      m.set(0, block + c, -0x1p-120F);
      m.set(0, 2 * block + c, c == 3 ? 0x1p-149F : -0.0F);
      m.set(0, 3 * block + c, std::numeric_limits<float>::max());
    }
    const Results found = quantize(backend(), m.view(), task_of(format));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(found.scale(0, 0)), 0u) << format.name;
    EXPECT_NE(found.scale(0, 1), 0) << format.name;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(found.scale(0, 2)), 0u) << format.name;
    EXPECT_TRUE(std::isfinite(found.scale(0, 3))) << format.name;
    EXPECT_EQ(found.code(0, 0), 0u) << format.name;
    EXPECT_NEAR(found.value(0, block) * 0x1p120F, -1, 1e-6) << format.name;
    EXPECT_EQ(found.code(0, 2 * block + 3), 0u) << format.name;
  }
}

}  // namespace
}  // namespace ufp4
