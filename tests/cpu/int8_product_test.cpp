// The INT8 product of every instruction set of this machine against the scalar reference, to the bit, for any tiles.
#include "cpu/int8_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace ufp4::cpu {
namespace {

constexpr std::array<std::int64_t, 5> kSegments{0, 128, 256, 512, 1024};
constexpr std::array kResults{Int8Result::kBf16, Int8Result::kF32, Int8Result::kF32Added};

struct Shape {
  std::int64_t m, n, k;
};

struct Matrices {
  std::mt19937 random;
  Int8Product product;
  std::vector<std::int8_t> a, b;
  std::vector<float> a_scales, b_scales;
  std::vector<std::uint8_t> before;

  // `fixed`: all integers are that, unless it is 0.
  Matrices(const Shape& shape, std::int64_t segment, Int8Result result, unsigned seed, int fixed = 0) : random(seed) {
    product.m = shape.m;
    product.n = shape.n;
    product.k = shape.k;
    product.segment = segment;
    product.result = result;
    product.out_row_stride = shape.n + 3;
    product.a = operand(shape.m, a, a_scales, fixed);
    product.b = operand(shape.n, b, b_scales, fixed);
    std::vector<float> values(static_cast<std::size_t>(shape.m * product.out_row_stride));
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(random);
    before.resize(values.size() * sizeof(float));
    if (!values.empty()) std::memcpy(before.data(), values.data(), before.size());
  }
  Matrices(const Matrices&) = delete;
  Matrices& operator=(const Matrices&) = delete;

  Int8Operand operand(std::int64_t rows, std::vector<std::int8_t>& values, std::vector<float>& scales, int fixed) {
    const std::int64_t stride = product.k + 5;
    const std::int64_t segments = segments_of(product, product.k);
    values.resize(static_cast<std::size_t>(rows * stride));
    scales.resize(static_cast<std::size_t>(rows * segments));
    std::uniform_int_distribution<int> integer(-120, 120), exponent(-12, 4), rare(0, 99);
    std::uniform_real_distribution<float> one(1, 2);
    for (std::int8_t& value : values) value = static_cast<std::int8_t>(fixed != 0 ? fixed : integer(random));
    for (float& scale : scales) {
      scale = std::ldexp(one(random), exponent(random));
      const int special = rare(random);
      if (special == 0) scale = 0;
      if (special == 1) scale = std::ldexp(scale, -68);  // the product of two is subnormal
      if (special == 2 && rows > 30) scale = std::numeric_limits<float>::quiet_NaN();
    }
    return {values.data(), stride, scales.data(), segments, 1};
  }

  template <typename Run>
  std::vector<std::uint8_t> result(const Run& run) const {
    std::vector<std::uint8_t> out = before;
    Int8Product p = product;
    p.out = out.data();
    run(p);
    return out;
  }

  // Empty, or the first place that differs. All NaN are the same.
  std::string difference(const std::vector<std::uint8_t>& found, const std::vector<std::uint8_t>& expected) const {
    const std::size_t size = product.result == Int8Result::kBf16 ? 2 : 4;
    const auto value = [&](const std::vector<std::uint8_t>& bytes, std::size_t i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, bytes.data() + i * size, size);
      return std::bit_cast<float>(size == 2 ? bits << 16 : bits);
    };
    const auto same = [](float x, float y) {
      return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y) || (std::isnan(x) && std::isnan(y));
    };
    const auto columns = static_cast<std::size_t>(product.out_row_stride);
    for (std::size_t i = 0; i < found.size() / size; ++i) {
      if (same(value(found, i), value(expected, i))) continue;
      return describe(product) + ": row " + std::to_string(i / columns) + ", column " + std::to_string(i % columns) +
             ": found " + std::to_string(value(found, i)) + ", expected " + std::to_string(value(expected, i));
    }
    return "";
  }
};

void in_tiles(const Int8ProductKernel& kernel, const Int8Product& product, ProductTiles tiles) {
  for (std::int64_t i = tiles.count(); i-- > 0;) kernel.multiply(product, tiles[i]);
}

void expect_reference(const Matrices& matrices) {
  const auto expected = matrices.result(int8_product_reference);
  const auto& p = matrices.product;
  for (const Int8ProductKernel& kernel : int8_product_kernels()) {
    if (!kernel.available) continue;
    for (const ProductTiles& tiles :
         {split_int8_product(p.m, p.n), ProductTiles{p.m, p.n, 13, 29}, ProductTiles{p.m, p.n, 400, 400}}) {
      const auto found = matrices.result([&](const Int8Product& product) { in_tiles(kernel, product, tiles); });
      ASSERT_EQ(matrices.difference(found, expected), "")
          << kernel.name << ", tiles of " << tiles.rows << " x " << tiles.columns;
    }
  }
}

TEST(CpuInt8Product, IsTheReference) {
  unsigned seed = 1;
  for (const Shape& shape : {Shape{1, 1, 16}, Shape{9, 50, 48}, Shape{33, 47, 528}, Shape{140, 211, 1040},
                             Shape{65, 100, 2064}, Shape{16, 48, 1024}}) {
    for (const std::int64_t segment : kSegments) {
      for (const Int8Result result : kResults) {
        expect_reference(Matrices(shape, segment, result, seed++));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(CpuInt8Product, TheLargestSumsDoNotOverflow) {
  for (const int largest : {120, -120, -128}) {
    for (const std::int64_t k : {kInt8Piece, std::int64_t{200'000}}) {
      expect_reference(Matrices({5, 7, k}, 0, Int8Result::kF32, 3, largest));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(CpuInt8Product, WithoutDepthItIsZeroOrLeavesTheResult) {
  for (const Int8Result result : kResults) expect_reference(Matrices({20, 30, 0}, 0, result, 4));
}

TEST(CpuInt8Product, ThisMachineHasAKernel) {
  EXPECT_TRUE(best_int8_product_kernel().available);
  for (const Int8ProductKernel& kernel : int8_product_kernels()) RecordProperty(kernel.name, kernel.available ? 1 : 0);
}

}  // namespace
}  // namespace ufp4::cpu
