// The reference of the INT8 product against exact sums and against FP32 arithmetic written out here.
#include "numerics/int8_product.h"

#include <gtest/gtest.h>

#include <cstddef>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "message_of.h"
#include "ufp4/dtype.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Operands of all rows alike: integers a and b, scales of each segment.
struct Pair {
  std::vector<std::int8_t> a, b;
  std::vector<float> a_scales, b_scales;
  std::vector<float> out;
  Int8Product product;

  Pair(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t segment, int a_value, int b_value)
      : a(static_cast<std::size_t>(m * k), static_cast<std::int8_t>(a_value)),
        b(static_cast<std::size_t>(n * k), static_cast<std::int8_t>(b_value)),
        out(static_cast<std::size_t>(m * n), -7.0F) {
    product.m = m;
    product.n = n;
    product.k = k;
    product.segment = segment;
    product.result = Int8Result::kF32;
    const std::int64_t segments = segments_of(product, k);
    a_scales.assign(static_cast<std::size_t>(m * segments), 1.0F);
    b_scales.assign(static_cast<std::size_t>(n * segments), 1.0F);
    product.a = {a.data(), k, a_scales.data(), segments, 1};
    product.b = {b.data(), k, b_scales.data(), segments, 1};
    product.out = out.data();
    product.out_row_stride = n;
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
};

TEST(Int8Product, SumsOfASegmentAreExact) {
  Pair pair(1, 1, 1024, 1024, 120, -120);
  int8_product_reference(pair.product);
  EXPECT_EQ(pair.out[0], -14400.0F * 1024);  // below 2^24, so that FP32 has it
}

TEST(Int8Product, ALongRowIsSummedInPieces) {
  for (const int sign : {1, -1}) {
    Pair pair(1, 1, 200'000, 0, 120, 120 * sign);
    int8_product_reference(pair.product);
    float expected = 0;
    for (const float count : {65536.0F, 65536.0F, 65536.0F, 3392.0F}) {
      // 14400 * 65536 has few bits, and the last product is below 2^26 with four zeros at its end.
      expected = expected + static_cast<float>(sign) * 14400.0F * count;
    }
    EXPECT_EQ(pair.out[0], expected);
    EXPECT_NEAR(pair.out[0], sign * 14400.0 * 200'000, 256);
  }
}

TEST(Int8Product, EvenMinus128FitsAPiece) {
  Pair pair(1, 1, kInt8Piece, 0, -128, -128);
  int8_product_reference(pair.product);
  EXPECT_EQ(pair.out[0], 0x1p30F);
}

TEST(Int8Product, AddsSegmentsInFp32InTheirOrder) {
  Pair pair(2, 3, 400, 128, 1, 1);
  std::mt19937 random(1);
  std::uniform_int_distribution<int> integer(-120, 120);
  std::uniform_real_distribution<float> scale(0.5F, 2);
  for (auto* values : {&pair.a, &pair.b}) {
    for (std::int8_t& value : *values) value = static_cast<std::int8_t>(integer(random));
  }
  for (auto* scales : {&pair.a_scales, &pair.b_scales}) {
    for (float& value : *scales) value = scale(random);
  }
  int8_product_reference(pair.product);
  for (std::size_t row = 0; row < 2; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      volatile float y = 0;  // every step is stored: nothing can be contracted
      for (std::size_t s = 0; s < 4; ++s) {
        int sum = 0;
        for (std::size_t k = s * 128; k < std::min<std::size_t>(400, s * 128 + 128); ++k) {
          sum += pair.a[row * 400 + k] * pair.b[column * 400 + k];
        }
        volatile float both = pair.a_scales[row * 4 + s] * pair.b_scales[column * 4 + s];
        volatile float term = static_cast<float>(sum) * both;
        y = y + term;
      }
      EXPECT_EQ(pair.out[row * 3 + column], y) << row << ", " << column;
    }
  }
}

TEST(Int8Product, AScaleThatIsNanMakesItsResultsNan) {
  Pair pair(2, 2, 256, 128, 0, 5);
  pair.a_scales[2] = kNan;  // row 1, segment 0
  int8_product_reference(pair.product);
  EXPECT_EQ(pair.out[0], 0);
  EXPECT_EQ(pair.out[1], 0);
  EXPECT_TRUE(std::isnan(pair.out[2]));
  EXPECT_TRUE(std::isnan(pair.out[3]));
}

TEST(Int8Product, ResultsAreRoundedOnceOrAdded) {
  Pair pair(1, 1, 16, 0, 3, 7);
  pair.a_scales[0] = 1.01F;
  const float y = 16 * 21 * (1.01F * 1.0F);
  int8_product_reference(pair.product);
  EXPECT_EQ(pair.out[0], y);
  pair.product.result = Int8Result::kF32Added;
  int8_product_reference(pair.product);
  EXPECT_EQ(pair.out[0], y + y);
  std::uint16_t narrow = 0;
  pair.product.out = &narrow;
  pair.product.result = Int8Result::kBf16;
  int8_product_reference(pair.product);
  EXPECT_EQ(narrow, float_to_bf16(y));
}

TEST(Int8Product, WithoutDepthItIsZeroOrLeavesTheResult) {
  Pair pair(2, 2, 0, 0, 1, 1);
  pair.out.assign(4, -0.0F);
  pair.product.result = Int8Result::kF32Added;
  int8_product_reference(pair.product);
  for (const float value : pair.out) EXPECT_TRUE(value == 0 && std::signbit(value));
  pair.product.result = Int8Result::kF32;
  int8_product_reference(pair.product);
  for (const float value : pair.out) EXPECT_TRUE(value == 0 && !std::signbit(value));
}

TEST(Int8Product, GroupsAreProductsOfTheirOwn) {
  Pair pair(4, 2, 288, 128, 1, 1);
  const std::array<std::int32_t, 4> rows{0, 1, 1, 4};
  pair.product.grouped = Int8Groups::kRows;
  pair.product.groups = 3;
  pair.product.offsets = rows.data();
  std::vector<Int8Product> groups = groups_of(pair.product);
  ASSERT_EQ(groups.size(), 3);
  EXPECT_EQ(groups[1].m, 0);
  EXPECT_EQ(groups[2].m, 3);
  EXPECT_EQ(groups[2].a.values, pair.a.data() + 288);
  EXPECT_EQ(groups[2].a.scales, pair.a_scales.data() + 3);
  EXPECT_EQ(groups[2].b.values, pair.b.data() + std::ptrdiff_t{4} * 288);
  EXPECT_EQ(groups[2].out, pair.out.data() + 2);

  // Depths of 144, 0 and 144 have two segments, none and two.
  const std::array<std::int32_t, 4> depths{0, 144, 144, 288};
  pair.product.grouped = Int8Groups::kDepth;
  pair.product.offsets = depths.data();
  groups = groups_of(pair.product);
  EXPECT_EQ(groups[1].k, 0);
  EXPECT_EQ(groups[2].k, 144);
  EXPECT_EQ(groups[2].a.values, pair.a.data() + 144);
  EXPECT_EQ(groups[2].a.scales, pair.a_scales.data() + 2);
  EXPECT_EQ(groups[2].out, pair.out.data() + std::ptrdiff_t{2} * 8);
}

TEST(Int8Product, RefusesWhatIsNone) {
  Pair pair(4, 4, 288, 128, 1, 1);
  const auto message = [](const Int8Product& p) { return message_of<InputError>([&] { int8_product_reference(p); }); };
  const auto expect = [&](const Int8Product& p, const char* part) {
    EXPECT_NE(message(p).find(part), std::string::npos) << message(p);
    EXPECT_NE(message(p).find("int8 product of "), std::string::npos) << message(p);
  };
  Int8Product p = pair.product;
  p.k = 280;
  expect(p, "280 elements to contract, expected a multiple of 16");
  p = pair.product;
  p.segment = 100;
  expect(p, "expected segments of a multiple of 128");
  p = pair.product;
  p.a.row_stride = 256;
  expect(p, "operand a has rows 256 elements apart, expected at least 288");
  p = pair.product;
  p.b.scales = nullptr;
  expect(p, "operand b has no memory");
  p = pair.product;
  p.out_row_stride = 3;
  expect(p, "the result has rows 3 elements apart, expected at least 4");
  p = pair.product;
  p.grouped = Int8Groups::kDepth;
  expect(p, "groups need offsets");
  p.groups = 2;
  const std::array<std::int32_t, 3> uneven{0, 40, 288}, descending{0, 304, 288}, short_of{0, 16, 272};
  p.offsets = uneven.data();
  expect(p, "group 0 ends at 40, expected a multiple of 16");
  p.offsets = descending.data();
  expect(p, "offsets descend after group 1");
  p.offsets = short_of.data();
  expect(p, "offsets go from 0 to 272, expected 0 to 288");
}

}  // namespace
}  // namespace ufp4
