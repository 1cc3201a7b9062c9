// The harness of the other tests: what it would take to miss a difference.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "quantization/cases.h"
#include "quantization/matrix.h"
#include "quantization/results.h"
#include "ufp4/format.h"

namespace ufp4::testing {
namespace {

TEST(Harness, AMatrixIsWhereItsLayoutSays) {
  for (const DType dtype : kTypes) {
    const Layout layout{.padding = 3, .shift = 5};
    Matrix m = make_matrix(7, 40, dtype, Values::kTies, 1, layout);
    const ConstMatrix view = m.view();
    EXPECT_EQ(view.row_stride, 43);
    const auto first = static_cast<const std::uint8_t*>(view.data) - m.bytes.data();
    EXPECT_EQ(first, static_cast<std::ptrdiff_t>(5 * size_of(dtype)));
    EXPECT_EQ(m.bytes.size(), (5 + 7 * 43) * size_of(dtype));
    m.set(6, 39, 2.5F);
    EXPECT_EQ(m.get(6, 39), 2.5F);
    EXPECT_EQ(m.bytes[m.bytes.size() - 1], 0xFF) << "what lies between the rows is left alone";
    EXPECT_TRUE(std::isnan(Matrix(2, 2, dtype, {.padding = 1}).get(0, 2)));
    const Matrix turned = transposed(m);
    const Matrix some = gathered(m, {6, 0, 6});
    for (std::int64_t c = 0; c < 40; ++c) {
      EXPECT_EQ(turned.get(c, 6), m.get(6, c));
      EXPECT_EQ(some.get(2, c), m.get(6, c));
      EXPECT_EQ(some.get(1, c), m.get(0, c));
    }
  }
}

// Threads and layouts change no element.
TEST(Harness, ValuesDependOnTheirPlaceAndTheSeedAlone) {
  for (const Values kind : {Values::kNormal, Values::kUneven, Values::kTies, Values::kHostile, Values::kPatches}) {
    const Matrix tall = make_matrix(700, 90, DType::kF32, kind, 11);
    const Matrix flat = make_matrix(5, 40, DType::kF32, kind, 11, {.padding = 9, .shift = 2});
    bool other = false;
    const Matrix seeded = make_matrix(5, 40, DType::kF32, kind, 12);
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t c = 0; c < 40; ++c) {
        const auto bits = std::bit_cast<std::uint32_t>(flat.get(r, c));
        EXPECT_EQ(bits, std::bit_cast<std::uint32_t>(tall.get(r, c)));
        other = other || bits != std::bit_cast<std::uint32_t>(seeded.get(r, c));
      }
    }
    EXPECT_TRUE(other);
  }
  const Matrix hostile = make_matrix(300, 300, DType::kF32, Values::kHostile, 1);
  const Matrix patches = make_matrix(300, 300, DType::kF32, Values::kPatches, 1);
  for (const Matrix* m : {&hostile, &patches}) {
    int nans = 0;
    int infinities = 0;
    int subnormals = 0;
    for (std::int64_t i = 0; i < 90000; ++i) {
      const int kind = std::fpclassify(m->get(i / 300, i % 300));
      nans += kind == FP_NAN ? 1 : 0;
      infinities += kind == FP_INFINITE ? 1 : 0;
      subnormals += kind == FP_SUBNORMAL ? 1 : 0;
    }
    EXPECT_GT(nans, 0);
    EXPECT_GT(infinities, 0);
    EXPECT_GT(subnormals, 0);
  }
}

// Every bit of every array of every format counts, and the words say where it is.
TEST(Harness, FirstDifferenceFindsAnyBit) {
  const Matrix m = make_matrix(5, 130, DType::kBF16, Values::kUneven, 3);
  const Wanted wanted{.e4m3 = true, .window = true};
  for (const BlockFormat& format : formats()) {
    for (const Axis axis : kAxes) {
      const QuantizeTask task = task_of(format, Rounding::kStochastic, 0, axis);
      const Results want = quantize(find_backend("scalar"), m.view(), task, wanted);
      EXPECT_EQ(first_difference(want, want), "");
      for (std::size_t i = 0; i < kArrays; ++i) {
        for (const std::size_t at : {std::size_t{0}, want.bytes[i].size() / 2, want.bytes[i].size() - 1}) {
          if (want.bytes[i].empty()) break;
          Results got = want;
          got.bytes[i][at] ^= 0x10;
          const std::string text = first_difference(got, want);
          EXPECT_TRUE(text.starts_with(want.arrays[i].name)) << format.name << ": '" << text << "'";
        }
      }
    }
  }
}

TEST(Harness, DifferencesHaveTheirPlaceInWords) {
  const Matrix m(3, 32);
  const Results want = quantize(find_backend("scalar"), m.view(), task_of("e1m2"));
  Results got = want;
  got.bytes[static_cast<std::size_t>(Array::kCodes)][16 + 4] ^= 0x50;
  EXPECT_EQ(first_difference(got, want), "codes[1, 9] is 5 (0x05), expected 0 (0x00)");
  got = want;
  got.bytes[static_cast<std::size_t>(Array::kScales)][4 * 5 + 3] ^= 0x80;
  EXPECT_EQ(first_difference(got, want), "scales[2, 1] is -0 (0x80000000), expected 0 (0x00000000)");
  // What was not asked for is not compared; what the other does not have is a difference.
  got = quantize(find_backend("scalar"), m.view(), task_of("e1m2"), {.scales = false, .values = {}});
  EXPECT_EQ(first_difference(got, want), "");
  EXPECT_EQ(first_difference(want, got), "scales have 24 bytes, expected 0");
}

TEST(Harness, AllCoresGiveWhatOneGives) {
  std::mt19937 random(4);
  for (int i = 0; i < 40; ++i) {
    const QuantizeTask task = random_task(random);
    const Matrix m = make_matrix(400, 70, random_dtype(random), static_cast<Values>(i % 5), random());
    const Wanted wanted{.e4m3 = i % 4 == 0, .window = i % 4 == 0};
    const Results one = quantize(default_backend(), m.view(), task, wanted);
    EXPECT_EQ(first_difference(quantize_by_all_cores(default_backend(), m.view(), task, wanted), one), "")
        << describe(m.view(), task);
  }
}

}  // namespace
}  // namespace ufp4::testing
