// What must hold for any shape, seed and data.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "backend/operand.h"
#include "one_level_formats.h"

namespace ufp4 {
namespace {

UFP4_EVERY_BACKEND(Property);

constexpr int kTrials = 60;

struct Case {
  Matrix m{0, 0};
  QuantizeSpec spec;
};

// A random shape, type, specification and distribution, sometimes with zeros, huge values, NaN or infinities.
Case random_case(std::mt19937& random) {
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const DType dtype = std::array{DType::kF32, DType::kBF16, DType::kF16}[static_cast<std::size_t>(pick(3))];
  Case c{Matrix(1 + pick(70), 1 + pick(300), dtype), {}};
  const auto& list = one_level_formats();
  const int hadamard = std::array{0, 16, 16, 32, 64, 128}[static_cast<std::size_t>(pick(6))];
  const int block = kBlockSizes[static_cast<std::size_t>(pick(4))];
  c.spec = spec_of(list[random() % list.size()].name, pick(2) == 0 ? Rounding::kNearest : Rounding::kStochastic,
                   hadamard, pick(2) == 0 ? Axis::kRow : Axis::kColumn, block);
  c.spec.hadamard = make_hadamard(hadamard, random());
  c.spec.random.seed = (std::uint64_t{random()} << 32) | random();
  c.spec.random.step = static_cast<std::uint32_t>(random());
  c.spec.random.stream = static_cast<std::uint32_t>(random());
  c.spec.random.row_offset = static_cast<std::uint32_t>(random());
  c.spec.random.column_offset = static_cast<std::uint32_t>(random());
  std::student_t_distribution<float> heavy(3);
  const int exponent = pick(3) == 0 ? pick(30) - 15 : 0;
  for (std::int64_t r = 0; r < c.m.rows; ++r) {
    for (std::int64_t k = 0; k < c.m.columns; ++k) c.m.set(r, k, std::ldexp(heavy(random), exponent));
  }
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
    SCOPED_TRACE(::testing::Message() << "trial " << trial << ": " << c.spec.format->name << " block " << c.spec.block
                                      << " hadamard " << c.spec.hadamard.size << " [" << c.m.rows << ", " << c.m.columns
                                      << "] " << name_of(c.m.dtype) << (c.spec.axis == Axis::kRow ? " row" : " column")
                                      << (c.spec.rounding == Rounding::kNearest ? " rtne" : " sr"));
    check(c);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(Property, EqualsTheReference) {
  for_random_cases(1, [&](const Case& c) {
    const Operand expected = quantize(find_backend("scalar"), c.m.view(), c.spec);
    ASSERT_TRUE(same_bits(quantize(backend(), c.m.view(), c.spec), expected));
  });
}

TEST_P(Property, ColumnOfAMatrixIsRowOfItsTranspose) {
  for_random_cases(2, [&](const Case& c) {
    QuantizeSpec other = c.spec;
    other.axis = c.spec.axis == Axis::kRow ? Axis::kColumn : Axis::kRow;
    const Operand a = quantize(backend(), c.m.view(), c.spec);
    const Operand b = quantize(backend(), c.m.transposed().view(), other);
    ASSERT_EQ(a.shape.rows, b.shape.rows);
    ASSERT_EQ(a.shape.columns, b.shape.columns);
    ASSERT_TRUE(same_bits(a, b));
  });
}

TEST_P(Property, PaddingIsZeros) {
  for_random_cases(3, [&](const Case& c) {
    const Operand a = quantize(backend(), c.m.view(), c.spec);
    const bool row = c.spec.axis == Axis::kRow;
    Matrix padded(row ? c.m.rows : a.shape.columns, row ? a.shape.columns : c.m.columns, c.m.dtype);
    for (std::int64_t r = 0; r < c.m.rows; ++r) {
      for (std::int64_t k = 0; k < c.m.columns; ++k) padded.set(r, k, c.m.get(r, k));
    }
    ASSERT_TRUE(same_bits(a, quantize(backend(), padded.view(), c.spec)));
  });
}

TEST_P(Property, HalfInputsCountAsTheirFp32Values) {
  for_random_cases(4, [&](const Case& c) {
    Matrix wide(c.m.rows, c.m.columns);
    for (std::int64_t r = 0; r < c.m.rows; ++r) {
      for (std::int64_t k = 0; k < c.m.columns; ++k) wide.set(r, k, c.m.get(r, k));
    }
    ASSERT_TRUE(same_bits(quantize(backend(), c.m.view(), c.spec), quantize(backend(), wide.view(), c.spec)));
  });
}

TEST_P(Property, DequantizeGivesWhatQuantizeWrote) {
  for_random_cases(5, [&](const Case& c) {
    Operand a = quantize(backend(), c.m.view(), c.spec);
    const ConstQuantized in{
        c.spec.format, c.spec.block, a.shape.rows, a.shape.columns, a.codes.data(), a.scales.data(), 1};
    std::vector<float> f32(a.dequantized.size());
    std::vector<std::uint16_t> bf16(f32.size());
    std::vector<std::uint16_t> direct(f32.size());
    backend().dequantize(in, f32.data(), DType::kF32);
    backend().dequantize(in, bf16.data(), DType::kBF16);
    const QuantizeTask task{c.spec, {nullptr, nullptr, direct.data(), DType::kBF16, nullptr}};
    backend().quantize(c.m.view(), std::span(&task, 1));
    ASSERT_TRUE(same_bits(f32, a.dequantized));
    for (std::size_t i = 0; i < f32.size(); ++i) {
      const std::uint32_t rounded = bits_of(bf16_to_float(float_to_bf16(f32[i])));
      ASSERT_EQ(bits_of(bf16_to_float(bf16[i])), rounded) << i;
      ASSERT_EQ(bits_of(bf16_to_float(direct[i])), rounded) << i;
    }
  });
}

TEST_P(Property, TasksOfOneCallAreAsCallsOfTheirOwn) {
  for_random_cases(6, [&](const Case& c) {
    QuantizeSpec other = c.spec;
    other.axis = c.spec.axis == Axis::kRow ? Axis::kColumn : Axis::kRow;
    other.rounding = Rounding::kStochastic;
    other.random.stream += 1;
    Operand a(c.m.view(), c.spec);
    Operand b(c.m.view(), other);
    float global_scale = 0;
    const std::array tasks{QuantizeTask{c.spec, a.arrays()}, QuantizeTask{other, b.arrays()},
                           QuantizeTask{c.spec, {nullptr, nullptr, nullptr, DType::kBF16, &global_scale}}};
    backend().quantize(c.m.view(), tasks);
    ASSERT_TRUE(same_bits(a, quantize(backend(), c.m.view(), c.spec)));
    ASSERT_TRUE(same_bits(b, quantize(backend(), c.m.view(), other)));
    ASSERT_EQ(global_scale, 1);
  });
}

TEST_P(Property, CodesDoNotChangeUnderPowersOfTwo) {
  for_random_cases(7, [&](const Case& c) {
    if (c.m.dtype != DType::kF32) return;
    // Moderate data, so that nothing over- or underflows.
    Matrix m = c.m;
    for (float& value : m.f32) value = std::isfinite(value) && std::fabs(value) < 1e6F ? value : 1.5F;
    for (float& value : m.f32) value = std::fabs(value) < 1e-6F ? 0 : value;
    Matrix scaled = m;
    for (float& value : scaled.f32) value = std::ldexp(value, -40);
    const Operand a = quantize(backend(), m.view(), c.spec);
    const Operand b = quantize(backend(), scaled.view(), c.spec);
    ASSERT_EQ(a.codes, b.codes);
    for (std::size_t i = 0; i < a.scales.size(); ++i) ASSERT_EQ(std::ldexp(a.scales[i], -40), b.scales[i]) << i;
  });
}

TEST_P(Property, UniformGridsAgree) {
  for_random_cases(8, [&](const Case& c) {
    QuantizeSpec spec = c.spec;
    spec.format = &find_format("e1m2");
    const Operand e1m2 = quantize(backend(), c.m.view(), spec);
    for (const char* name : {"int4", "e0m3"}) {
      spec.format = &find_format(name);
      const Operand other = quantize(backend(), c.m.view(), spec);
      for (std::int64_t r = 0; r < other.shape.rows; ++r) {
        for (std::int64_t k = 0; k < other.shape.columns; ++k) {
          ASSERT_EQ(4 * code_value(find_format("e1m2").element, e1m2.code(r, k)),
                    code_value(spec.format->element, other.code(r, k)))
              << name << " [" << r << ", " << k << "]";
        }
      }
      ASSERT_TRUE(same_bits(other.dequantized, e1m2.dequantized)) << name;
    }
  });
}

// A NaN or an infinity spoils its own block, or the blocks of its transform, and nothing else.
TEST_P(Property, NonFiniteValuesStayInTheirBlocks) {
  for (const BlockFormat& format : one_level_formats()) {
    for (const int hadamard : {0, 16, 64}) {
      for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
        Matrix m(3, 128);
        for (std::size_t i = 0; i < m.f32.size(); ++i) m.f32[i] = static_cast<float>(i % 7) - 3;
        const QuantizeSpec spec = spec_of(format.name, Rounding::kNearest, hadamard);
        const Operand clean = quantize(backend(), m.view(), spec);
        m.set(1, 70, bad);
        const Operand found = quantize(backend(), m.view(), spec);
        const std::int64_t unit = std::max(16, hadamard);
        for (std::int64_t r = 0; r < 3; ++r) {
          for (std::int64_t c = 0; c < 128; ++c) {
            if (r == 1 && c / unit == 70 / unit) {
              ASSERT_TRUE(std::isnan(found.value(r, c))) << format.name << " " << c;
              ASSERT_EQ(found.code(r, c), 0u);
            } else {
              ASSERT_EQ(bits_of(found.value(r, c)), bits_of(clean.value(r, c))) << format.name << " " << r << " " << c;
            }
          }
        }
      }
    }
  }
}

TEST_P(Property, BlocksBelowTheBoundaryAreZero) {
  for (const BlockFormat& format : one_level_formats()) {
    Matrix m(1, 64);
    for (std::int64_t c = 0; c < 16; ++c) {
      m.set(0, c, std::nextafter(0x1p-120F, 0.0F));
      m.set(0, 16 + c, -0x1p-120F);
      m.set(0, 32 + c, c == 3 ? 0x1p-149F : -0.0F);
      m.set(0, 48 + c, std::numeric_limits<float>::max());
    }
    const Operand found = quantize(backend(), m.view(), spec_of(format.name));
    EXPECT_EQ(bits_of(found.scale(0, 0)), 0u) << format.name;
    EXPECT_NE(found.scale(0, 1), 0) << format.name;
    EXPECT_EQ(bits_of(found.scale(0, 2)), 0u) << format.name;
    EXPECT_TRUE(std::isfinite(found.scale(0, 3))) << format.name;
    EXPECT_EQ(found.code(0, 0), 0u) << format.name;
    EXPECT_NEAR(found.value(0, 16) * 0x1p120F, -1, 1e-6) << format.name;
    EXPECT_EQ(found.code(0, 35), 0u) << format.name;
  }
}

}  // namespace
}  // namespace ufp4
