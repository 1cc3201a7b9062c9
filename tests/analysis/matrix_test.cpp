#include "analysis/matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "analysis/distribution.h"
#include "numerics/hadamard.h"
#include "quantization/cases.h"
#include "quantization/matrix.h"
#include "quantization/results.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

using testing::Matrix;
using testing::quantize;

// Sums over one quantization of the whole matrix by the library, transform and random bits included: of the values x as
// they are quantized and of their image q.
struct Direct {
  long double xx = 0, xq = 0, qq = 0;
  double zeros = 0;

  double alpha() const { return static_cast<double>(xq / xx); }
  double nmse() const { return static_cast<double>((qq - 2 * xq + xx) / xx); }
};

Direct quantize_whole(const Matrix& matrix, const OperandSpec& spec, const Place& place) {
  const testing::Results image = quantize(default_backend(), matrix.view(), {spec, place, {}, nullptr});
  Direct direct;
  std::vector<float> row(static_cast<std::size_t>(image.shape.columns));
  for (std::int64_t r = 0; r < image.shape.rows; ++r) {
    std::fill(row.begin(), row.end(), 0.0F);
    for (std::int64_t c = 0; c < image.shape.valid_columns; ++c) {
      row[static_cast<std::size_t>(c)] = place.axis == Axis::kRow ? matrix.get(r, c) : matrix.get(c, r);
    }
    const auto size = static_cast<std::size_t>(spec.hadamard.size);
    for (std::size_t c = 0; size != 0 && c < row.size(); c += size) {
      apply_hadamard(std::span(row).subspan(c, size), spec.hadamard, place.seed);
    }
    for (std::int64_t c = 0; c < image.shape.columns; ++c) {
      const auto x = static_cast<long double>(row[static_cast<std::size_t>(c)]);
      const auto q = static_cast<long double>(image.value(r, c));
      direct.xx += x * x;
      direct.xq += x * q;
      direct.qq += q * q;
      if (q == 0) direct.zeros += 1;
    }
  }
  return direct;
}

// Draws in the order of the rows.
Matrix drawn(const char* distribution, std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  Distribution(distribution).sample(values, seed, 0);
  Matrix matrix(rows, columns);
  matrix.fill([&, at = std::size_t{0}]() mutable { return values[at++]; });
  return matrix;
}

class EverySchemeTest : public ::testing::TestWithParam<std::string> {};

// Tiles, threads and a transform shared by all formats give the codes of one quantization of the whole.
TEST_P(EverySchemeTest, HasTheImageOfOneQuantization) {
  constexpr std::int64_t kRows = 12;
  constexpr std::int64_t kColumns = 8320;  // beyond a tile's width
  const Matrix matrix = drawn("student4", kRows, kColumns, 5);
  const BlockFormat& format = find_format(GetParam());
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    for (const int hadamard : {0, 16, 128}) {
      MatrixAnalysis analysis;
      analysis.schemes = {{.format = &format, .hadamard = make_hadamard(hadamard, 3)}};
      if (format.rule == ScaleRule::kAmax) {
        analysis.schemes.push_back({.format = &format,
                                    .block = 64,
                                    .rounding = Rounding::kStochastic,
                                    .hadamard = make_hadamard(hadamard, 3)});
      }
      analysis.place = {.axis = axis, .seed = 9, .step = 2, .stream = 1, .row_offset = 16, .column_offset = 32};
      analysis.threads = 3;
      const MatrixReport report = analyze_matrix(source_of(matrix.view(), axis), analysis);
      for (const SchemeFigures& entry : report.schemes) {
        const Direct direct = quantize_whole(matrix, entry.scheme, analysis.place);
        const Figures& f = entry.figures;
        // |q|^2 / |x|^2 = NMSE - 1 + 2 alpha.
        const double xx = report.rms * report.rms * kRows * kColumns;
        EXPECT_NEAR(f.nmse - 1 + 2 * f.alpha, static_cast<double>(direct.qq) / xx, 2e-6) << hadamard;
        if (axis == Axis::kRow) {  // whose rows need no padding
          const double count = static_cast<double>(kRows * kColumns);
          EXPECT_NEAR(f.zero_share, direct.zeros / count, 1e-9) << hadamard;
        }
      }
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> list;
  for (const BlockFormat& format : formats()) list.emplace_back(format.name);
  return list;
}

INSTANTIATE_TEST_SUITE_P(Formats, EverySchemeTest, ::testing::ValuesIn(names()),
                         [](const auto& test) { return test.param; });

// Schemes whose second-level scales are finer than the tensor's, or whose tau is given, have the figures of one
// quantization of the whole by the library: in rows beyond a tile's width and in more rows than a tile has.
class OuterScaleTest : public ::testing::TestWithParam<OuterScale> {};

struct OuterCase {
  std::int64_t rows, columns;
  Axis axis;
  Rounding rounding;
  int hadamard;
};

TEST_P(OuterScaleTest, HasTheFiguresOfOneQuantization) {
  const BlockFormat* const powers = &find_format("int4_p2");
  const BlockFormat& format = powers->outer_scales.has(GetParam()) ? *powers : find_format("int4_i4");
  for (const OuterCase& c : {OuterCase{301, 8325, Axis::kRow, Rounding::kNearest, 0},
                             OuterCase{301, 8325, Axis::kRow, Rounding::kStochastic, 16},
                             OuterCase{16600, 131, Axis::kColumn, Rounding::kNearest, 16},
                             OuterCase{16600, 131, Axis::kRow, Rounding::kNearest, 128},
                             OuterCase{1, 17, Axis::kRow, Rounding::kNearest, 0}}) {
    const Matrix matrix = testing::make_matrix(c.rows, c.columns, DType::kBF16, testing::Values::kUneven, 6);
    OperandSpec spec{.format = &format, .rounding = c.rounding, .hadamard = {.size = c.hadamard}};
    MatrixAnalysis analysis;
    spec.outer.each = GetParam();
    spec.options.tau = format.has_window() ? 1 : 0;
    analysis.schemes.push_back(spec);
    OperandSpec other = spec;
    other.options.tau = format.has_window() ? 1.125F : 0;
    if (!format.has_window()) other.outer.each = OuterScale::k1x128;
    analysis.schemes.push_back(other);
    spec.block = 64;
    analysis.schemes.push_back(spec);
    analysis.place = {.axis = c.axis, .seed = 9, .step = 2, .stream = 1, .row_offset = 3, .column_offset = 40};
    analysis.threads = 2;
    const MatrixReport report = analyze_matrix(source_of(matrix.view(), c.axis), analysis);
    ASSERT_EQ(report.schemes.size(), analysis.schemes.size());
    for (std::size_t i = 0; i < report.schemes.size(); ++i) {
      const Direct direct = quantize_whole(matrix, analysis.schemes[i], analysis.place);
      const Figures& f = report.schemes[i].figures;
      SCOPED_TRACE(testing::describe(matrix.view(), {analysis.schemes[i], analysis.place, {}, nullptr}));
      EXPECT_EQ(report.schemes[i].scheme, analysis.schemes[i]);
      // All sums are in FP64: what is left is the order in which they are added.
      EXPECT_NEAR(f.alpha, direct.alpha(), 1e-12);
      EXPECT_NEAR(f.nmse, direct.nmse(), 1e-12);
    }
    if (c.rows == 1) continue;
    // The choices matter, so that figures of others would not pass.
    EXPECT_GT(std::fabs(report.schemes[0].figures.nmse - report.schemes[1].figures.nmse), 1e-6);
    if (GetParam() == OuterScale::kTensor || !format.outer_scales.has(OuterScale::kTensor)) continue;
    OperandSpec tensor = analysis.schemes[0];
    tensor.outer.each = OuterScale::kTensor;
    const double by_tensor = quantize_whole(matrix, tensor, analysis.place).nmse();
    EXPECT_GT(std::fabs(by_tensor - report.schemes[0].figures.nmse), 1e-7);
  }
}

INSTANTIATE_TEST_SUITE_P(Of, OuterScaleTest, ::testing::ValuesIn(kOuterScales),
                         [](const auto& test) { return "each_" + std::string(name_of(test.param)); });

// Schemes of all kinds share tiles and passes, and none takes another's scales.
TEST(Matrix, SchemesTogetherHaveTheFiguresOfEachAlone) {
  const Matrix matrix = testing::make_matrix(200, 8300, DType::kF32, testing::Values::kUneven, 7);
  MatrixAnalysis together;
  for (const char* name : {"int4_p2", "nvfp4", "e1m2", "int4_i4", "int4_p2"}) {
    for (const OuterScale each : kOuterScales) {
      OperandSpec spec{.format = &find_format(name), .outer = {.each = each}};
      const bool none = each == OuterScale::kTensor && !spec.format->has_outer_scale();
      if (!none && !spec.format->outer_scales.has(each)) continue;
      if (together.schemes.size() > 6) spec.hadamard = {.size = 32};
      together.schemes.push_back(spec);
    }
  }
  EXPECT_EQ(passes(together.schemes), 2);
  const MatrixReport report = analyze_matrix(source_of(matrix.view(), Axis::kRow), together);
  for (std::size_t i = 0; i < together.schemes.size(); ++i) {
    MatrixAnalysis alone = together;
    alone.schemes = {together.schemes[i]};
    const Figures one = analyze_matrix(source_of(matrix.view(), Axis::kRow), alone).schemes[0].figures;
    EXPECT_NEAR(report.schemes[i].figures.nmse, one.nmse, 1e-12) << i;
    EXPECT_NEAR(report.schemes[i].figures.alpha, one.alpha, 1e-12) << i;
  }
  const OperandSpec tiles{.format = &find_format("int4_p2"), .outer = {.each = OuterScale::k1x128}};
  EXPECT_EQ(passes({&tiles, 1}), 1);
}

TEST(Matrix, TheGainIsThatOverTheSameSchemeWithoutTransform) {
  std::vector<float> values(std::size_t{64} * 512);
  Distribution("student3").sample(values, 1, 0);
  const BlockFormat* const formats[] = {&find_format("e1m2"), &find_format("e2m1")};
  MatrixAnalysis analysis;
  analysis.schemes = schemes_of(formats, 16);
  const MatrixReport report =
      analyze_matrix(source_of({values.data(), DType::kF32, 64, 512, 512}, Axis::kRow), analysis);
  ASSERT_EQ(report.schemes.size(), 4u);
  EXPECT_EQ(report.without_transform(report.schemes[1].scheme), &report.schemes[0].figures);
  EXPECT_EQ(report.without_transform(report.schemes[3].scheme), &report.schemes[2].figures);
  EXPECT_GT(gain_db(report.schemes[0].figures, report.schemes[1].figures), 1);  // uniform and heavy tails
  EXPECT_TRUE(std::isnan(gain_db(Figures{}, report.schemes[0].figures)));
}

// A constant row and a block that is exact have no error; values beyond FP32 after the transform are left out.
TEST(Matrix, ExactAndHugeValuesHaveDefinedFigures) {
  std::vector<float> constant(32, 3.0F);
  const BlockFormat* const formats[] = {&find_format("e1m2"), &find_format("mxint4")};
  MatrixAnalysis analysis;
  analysis.schemes = schemes_of(formats, 16);
  for (const SchemeFigures& s :
       analyze_matrix(source_of({constant.data(), DType::kF32, 1, 32, 32}, Axis::kRow), analysis).schemes) {
    if (s.scheme.hadamard.size != 0) continue;  // whose signs leave values of several sizes
    EXPECT_NEAR(s.figures.nmse, 0, 1e-12) << s.scheme.format->name;
    EXPECT_NEAR(s.figures.alpha, 1, 1e-6);
  }
  std::vector<float> huge(32, std::numeric_limits<float>::max());
  for (const SchemeFigures& s :
       analyze_matrix(source_of({huge.data(), DType::kF32, 1, 32, 32}, Axis::kRow), analysis).schemes) {
    EXPECT_FALSE(std::isnan(s.figures.nmse)) << s.scheme.format->name;
    EXPECT_FALSE(std::isnan(s.figures.alpha)) << s.scheme.format->name;
  }
}

}  // namespace
}  // namespace ufp4::analysis
