// The BF16 product of every instruction set of this machine, against sums in FP64 and, bit for bit, against the order
// of rounding that the header states.
#include "cpu/product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace ufp4::cpu {
namespace {

using Contracted = ProductOperand::Contracted;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kSmallestNormal = std::numeric_limits<float>::min();

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Values that BF16 has exactly, or what is left of them.
std::uint16_t to_bf16(float value) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16); }
float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

using Source = std::function<float()>;

Source normal_values(unsigned seed) {
  return [random = std::mt19937(seed), normal = std::normal_distribution<float>()]() mutable { return normal(random); };
}

Source small_integers(unsigned seed) {
  return [random = std::mt19937(seed)]() mutable { return static_cast<float>(random() % 17) - 8; };
}

// An operand of `length` rows or columns of C, with a NaN in every element between the end of a row and the next one,
// and none after the last row.
struct Operand {
  std::vector<std::uint16_t> storage;
  ProductOperand view;

  Operand(std::int64_t length, std::int64_t k, Contracted contracted, std::int64_t gap, const Source& source) {
    const bool rows = contracted == Contracted::kRows;
    const std::int64_t stored_rows = rows ? k : length;
    const std::int64_t stored_columns = rows ? length : k;
    view = {nullptr, stored_columns + gap, contracted};
    storage.assign(at(std::max<std::int64_t>(0, stored_rows * view.row_stride - gap)), to_bf16(kNan));
    for (std::int64_t i = 0; i < length; ++i) {
      for (std::int64_t j = 0; j < k; ++j) storage[index(i, j)] = to_bf16(source());
    }
    view.data = storage.data();
  }

  std::size_t index(std::int64_t i, std::int64_t k) const {
    return at(view.contracted == Contracted::kRows ? k * view.row_stride + i : i * view.row_stride + k);
  }
  float operator()(std::int64_t i, std::int64_t k) const { return from_bf16(storage[index(i, k)]); }
};

struct Shape {
  std::int64_t m, n, k;
};

// A product with its memory. Elements between the rows of C hold -1.
struct Case {
  Shape shape;
  Operand a, b;
  std::int64_t stride;
  bool add;
  std::vector<float> before;

  Case(const Shape& size, const Source& source, bool adds = false, Contracted a_contracted = Contracted::kColumns,
       Contracted b_contracted = Contracted::kColumns, std::int64_t gap = 0)
      : shape(size),
        a(size.m, size.k, a_contracted, gap, source),
        b(size.n, size.k, b_contracted, 2 * gap, source),
        stride(size.n + 3 * gap),
        add(adds),
        before(at(size.m * stride), -1.0F) {
    for (std::int64_t i = 0; i < shape.m; ++i) {
      for (std::int64_t j = 0; j < shape.n; ++j) before[at(i * stride + j)] = adds ? source() : kNan;
    }
  }

  Product product(std::vector<float>& c) const {
    return {shape.m, shape.n, shape.k, a.view, b.view, c.data(), stride, add};
  }
};

std::vector<float> multiply(const ProductKernel& kernel, const Case& what) {
  std::vector<float> c = what.before;
  const Product product = what.product(c);
  const ProductTiles tiles = split_product(product.m, product.n);
  for (std::int64_t tile = 0; tile < tiles.count(); ++tile) kernel.multiply(product, tiles[tile]);
  return c;
}

// The sums that the header promises.
std::vector<float> sums_in_order(const Case& what) {
  std::vector<float> c = what.before;
  for (std::int64_t i = 0; i < what.shape.m; ++i) {
    for (std::int64_t j = 0; j < what.shape.n; ++j) {
      float sum = what.add ? c[at(i * what.stride + j)] : 0.0F;
      for (std::int64_t k = 0; k < what.shape.k; ++k) sum = std::fma(what.a(i, k), what.b(j, k), sum);
      c[at(i * what.stride + j)] = sum;
    }
  }
  return c;
}

// Bits, so that NaN is equal to itself; sums of either sign that are 0 are the same.
std::string first_difference(const std::vector<float>& got, const std::vector<float>& want) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(got[i]) == std::bit_cast<std::uint32_t>(want[i]) || got[i] == want[i]) continue;
    return "element " + std::to_string(i) + ": " + std::to_string(got[i]) + " for " + std::to_string(want[i]);
  }
  return "";
}

std::vector<ProductKernel> runnable() {
  std::vector<ProductKernel> list;
  std::ranges::copy_if(product_kernels(), std::back_inserter(list), &ProductKernel::available);
  return list;
}

class ProductTest : public ::testing::TestWithParam<ProductKernel> {};

// Around the sizes of vectors, blocks of sums, packed pieces of k and tiles.
constexpr Shape kShapes[] = {{1, 1, 1},     {1, 1, 2},     {3, 5, 7},     {8, 48, 256},  {9, 49, 257},
                             {7, 47, 255},  {16, 16, 32},  {17, 31, 33},  {4, 12, 128},  {5, 13, 129},
                             {1, 100, 300}, {100, 1, 300}, {65, 96, 511}, {257, 33, 40}, {20, 481, 70}};

TEST_P(ProductTest, IsWithinTheErrorOfItsSums) {
  unsigned seed = 1;
  for (const Shape& shape : kShapes) {
    for (const Contracted a : {Contracted::kColumns, Contracted::kRows}) {
      for (const Contracted b : {Contracted::kColumns, Contracted::kRows}) {
        const bool add = seed % 2 == 0;
        const Case what(shape, normal_values(seed), add, a, b, seed % 3);
        const std::vector<float> c = multiply(GetParam(), what);
        for (std::int64_t i = 0; i < shape.m; ++i) {
          for (std::int64_t j = 0; j < what.stride; ++j) {
            const std::size_t index = at(i * what.stride + j);
            if (j >= shape.n) {
              ASSERT_EQ(c[index], -1.0F) << "between the rows of C";
              continue;
            }
            double exact = add ? what.before[index] : 0;
            double magnitudes = std::abs(exact);
            for (std::int64_t k = 0; k < shape.k; ++k) {
              const double term = double{what.a(i, k)} * double{what.b(j, k)};
              exact += term;
              magnitudes += std::abs(term);
            }
            // Each of k sums errs by half a unit of the last place, of at most the sum of all magnitudes.
            const double unit = std::ldexp(1.0, -24);
            const double bound = static_cast<double>(shape.k) * unit / (1 - static_cast<double>(shape.k) * unit);
            ASSERT_LE(std::abs(c[index] - exact), bound * magnitudes)
                << shape.m << "x" << shape.n << "x" << shape.k << " at " << i << ", " << j;
          }
        }
        ++seed;
      }
    }
  }
}

TEST_P(ProductTest, RoundsInTheOrderOfK) {
  unsigned seed = 100;
  for (const Shape& shape : kShapes) {
    const auto a = seed % 2 == 0 ? Contracted::kColumns : Contracted::kRows;
    const auto b = seed % 4 < 2 ? Contracted::kColumns : Contracted::kRows;
    const Case what(shape, normal_values(seed), seed % 3 == 0, a, b, 1);
    ASSERT_EQ(first_difference(multiply(GetParam(), what), sums_in_order(what)), "")
        << shape.m << "x" << shape.n << "x" << shape.k;
    ++seed;
  }
}

TEST_P(ProductTest, IsExactForSmallIntegers) {
  for (const Contracted contracted : {Contracted::kColumns, Contracted::kRows}) {
    const Case what({70, 111, 1027}, small_integers(3), true, contracted, contracted, 5);
    const std::vector<float> c = multiply(GetParam(), what);
    for (std::int64_t i = 0; i < what.shape.m; ++i) {
      for (std::int64_t j = 0; j < what.shape.n; ++j) {
        auto sum = static_cast<std::int64_t>(what.before[at(i * what.stride + j)]);
        for (std::int64_t k = 0; k < what.shape.k; ++k) sum += static_cast<std::int64_t>(what.a(i, k) * what.b(j, k));
        ASSERT_EQ(c[at(i * what.stride + j)], static_cast<float>(sum)) << i << ", " << j;
      }
    }
  }
}

TEST_P(ProductTest, AddsPiecesOfKWithTheBitsOfOneProduct) {
  const Case whole({19, 53, 700}, normal_values(4), true);
  const std::vector<float> want = multiply(GetParam(), whole);
  std::vector<float> c = whole.before;
  Product piece = whole.product(c);
  for (const std::int64_t length : {2, 256, 300, 142}) {
    piece.k = length;
    GetParam().multiply(piece, {0, piece.m, 0, piece.n});
    piece.a.data += length;
    piece.b.data += length;
  }
  EXPECT_EQ(first_difference(c, want), "");
}

TEST_P(ProductTest, DoesNotDependOnTheTiles) {
  const Case what({300, 130, 290}, normal_values(5));
  const std::vector<float> want = multiply(GetParam(), what);
  std::mt19937 random(6);
  for (int i = 0; i < 4; ++i) {
    std::vector<float> c = what.before;
    ProductTiles tiles{what.shape.m, what.shape.n, static_cast<std::int64_t>(1 + random() % 300),
                       static_cast<std::int64_t>(1 + random() % 130)};
    for (std::int64_t tile = tiles.count() - 1; tile >= 0; --tile) GetParam().multiply(what.product(c), tiles[tile]);
    ASSERT_EQ(first_difference(c, want), "") << "tiles of " << tiles.rows << " x " << tiles.columns;
  }
  std::vector<float> c = what.before;
  GetParam().multiply(what.product(c), {0, what.shape.m, 0, what.shape.n});
  EXPECT_EQ(first_difference(c, want), "") << "one tile";
}

TEST_P(ProductTest, DoesNotDependOnTheThreads) {
  const Case what({600, 500, 64}, normal_values(7), true);
  const std::vector<float> want = multiply(GetParam(), what);
  const ProductTiles tiles = split_product(what.shape.m, what.shape.n);
  ASSERT_GE(tiles.count(), 6);
  std::vector<float> c = what.before;
  std::vector<std::thread> threads;
  for (std::int64_t first = 0; first < 3; ++first) {
    threads.emplace_back([&, first] {
      for (std::int64_t tile = first; tile < tiles.count(); tile += 3)
        GetParam().multiply(what.product(c), tiles[tile]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first_difference(c, want), "");
}

TEST_P(ProductTest, TouchesOnlyItsTile) {
  const Case what({30, 60, 20}, normal_values(8));
  const std::vector<float> want = sums_in_order(what);
  std::vector<float> c(what.before.size(), -5.0F);
  const ProductTile tile{3, 14, 7, 58};
  GetParam().multiply(what.product(c), tile);
  for (std::int64_t i = 0; i < what.shape.m; ++i) {
    for (std::int64_t j = 0; j < what.shape.n; ++j) {
      const bool inside = i >= tile.first_row && i < tile.last_row && j >= tile.first_column && j < tile.last_column;
      ASSERT_EQ(c[at(i * what.stride + j)], inside ? want[at(i * what.stride + j)] : -5.0F) << i << ", " << j;
    }
  }
}

TEST_P(ProductTest, WithoutProductsIsZeroOrUnchanged) {
  const Case plain({5, 50, 0}, normal_values(9));
  for (const float value : multiply(GetParam(), plain)) ASSERT_EQ(value, 0.0F);
  const Case adding({5, 50, 0}, normal_values(9), true);
  EXPECT_EQ(multiply(GetParam(), adding), adding.before);
  for (const Shape& shape : {Shape{0, 5, 3}, Shape{5, 0, 3}, Shape{0, 0, 0}}) {
    EXPECT_EQ(split_product(shape.m, shape.n).count(), 0);
    std::vector<float> c;
    GetParam().multiply(Case(shape, normal_values(9)).product(c), {0, shape.m, 0, shape.n});
  }
}

TEST_P(ProductTest, PropagatesNanAndInfinity) {
  // An odd k: the second half of the last pair is padding.
  for (const Contracted contracted : {Contracted::kColumns, Contracted::kRows}) {
    Case what(
        {20, 60, 301}, [] { return 1.0F; }, false, contracted, contracted);
    what.a.storage[what.a.index(2, 300)] = to_bf16(kNan);
    what.a.storage[what.a.index(4, 0)] = to_bf16(kInfinity);
    what.b.storage[what.b.index(50, 0)] = to_bf16(0.0F);
    what.b.storage[what.b.index(51, 7)] = to_bf16(-kInfinity);
    const std::vector<float> c = multiply(GetParam(), what);
    for (std::int64_t i = 0; i < what.shape.m; ++i) {
      for (std::int64_t j = 0; j < what.shape.n; ++j) {
        const float value = c[at(i * what.stride + j)];
        if (i == 2 || (i == 4 && (j == 50 || j == 51))) {
          ASSERT_TRUE(std::isnan(value)) << i << ", " << j << ": " << value;
        } else if (i == 4 || j == 51) {
          ASSERT_EQ(value, i == 4 ? kInfinity : -kInfinity) << i << ", " << j;
        } else {
          ASSERT_EQ(value, j == 50 ? 300.0F : 301.0F) << i << ", " << j;
        }
      }
    }
  }
}

TEST_P(ProductTest, OverflowsToInfinity) {
  const Case products({1, 1, 1}, [] { return std::ldexp(1.0F, 100); });
  EXPECT_EQ(multiply(GetParam(), products), std::vector<float>{kInfinity});
  const Case sums({1, 1, 5}, [] { return std::ldexp(1.0F, 63); });
  EXPECT_EQ(multiply(GetParam(), sums), std::vector<float>{kInfinity});
}

TEST_P(ProductTest, KeepsSubnormalNumbersOrTakesThemAsZero) {
  const bool keeps = GetParam().keeps_subnormals;
  Case operands({1, 1, 2}, [] { return 1.0F; });
  operands.a.storage[0] = to_bf16(kSmallestNormal / 4);
  operands.a.storage[1] = to_bf16(0.0F);
  operands.b.storage[0] = to_bf16(1024.0F);
  EXPECT_EQ(multiply(GetParam(), operands).front(), keeps ? 256 * kSmallestNormal : 0.0F);
  Case sums({1, 1, 2}, [] { return 0.5F; });
  sums.a.storage[0] = to_bf16(kSmallestNormal);
  sums.a.storage[1] = to_bf16(0.0F);
  EXPECT_EQ(multiply(GetParam(), sums).front(), keeps ? kSmallestNormal / 2 : 0.0F);
  Case added(
      {1, 1, 1}, [] { return 0.0F; }, true);
  added.before[0] = kSmallestNormal / 2;
  EXPECT_EQ(multiply(GetParam(), added).front(), keeps ? kSmallestNormal / 2 : 0.0F);
}

INSTANTIATE_TEST_SUITE_P(All, ProductTest, ::testing::ValuesIn(runnable()),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(ProductTiles, CoverEveryElementOnce) {
  for (const auto& [m, n] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 700}, {256, 480}, {257, 481}, {1024, 512}}) {
    const ProductTiles tiles = split_product(m, n);
    std::vector<int> covered(at(m * n));
    for (std::int64_t index = 0; index < tiles.count(); ++index) {
      const ProductTile tile = tiles[index];
      ASSERT_LT(tile.first_row, tile.last_row);
      ASSERT_LT(tile.first_column, tile.last_column);
      for (std::int64_t i = tile.first_row; i < tile.last_row; ++i) {
        for (std::int64_t j = tile.first_column; j < tile.last_column; ++j) ++covered[at(i * n + j)];
      }
    }
    EXPECT_EQ(std::ranges::count(covered, 1), m * n) << m << " x " << n;
  }
}

TEST(ProductKernels, FastestFirstAndPortableLast) {
  const auto kernels = product_kernels();
  ASSERT_FALSE(kernels.empty());
  EXPECT_STREQ(kernels.back().name, "EMU128");
  EXPECT_TRUE(kernels.back().available);
  EXPECT_EQ(best_product_kernel().name, runnable().front().name);
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(kernels[i].multiply, kernels[j].multiply);
  }
}

}  // namespace
}  // namespace ufp4::cpu
