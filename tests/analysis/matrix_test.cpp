#include "analysis/matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "analysis/distribution.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

// alpha and NMSE of one quantization of the whole matrix by the library, transform and random bits included. With the
// transform the image is compared in the transformed domain, whose values the identity of norms gives.
struct Direct {
  double xx = 0, qq = 0, zeros = 0;
};

Direct quantize_whole(const ConstMatrix& matrix, const QuantizeSpec& spec) {
  const QuantizedShape shape = quantized_shape(matrix.rows, matrix.columns, spec);
  std::vector<float> image(static_cast<std::size_t>(shape.rows * shape.columns));
  QuantizeTask task{spec, {}};
  task.out.dequantized = image.data();
  task.out.dequantized_dtype = DType::kF32;
  default_backend().quantize(matrix, {&task, 1});
  Direct direct;
  for (std::int64_t r = 0; r < shape.rows; ++r) {
    for (std::int64_t c = 0; c < shape.columns; ++c) {
      const double q = static_cast<double>(image[static_cast<std::size_t>(r * shape.columns + c)]);
      direct.qq += q * q;
      if (q == 0) direct.zeros += 1;
    }
  }
  return direct;
}

struct Case {
  Scheme scheme;
  Axis axis;
};

class EverySchemeTest : public testing::TestWithParam<std::string> {};

// Tiles, threads and a transform shared by all formats give the codes of one quantization of the whole.
TEST_P(EverySchemeTest, HasTheImageOfOneQuantization) {
  constexpr std::int64_t kRows = 12;
  constexpr std::int64_t kColumns = 8320;  // beyond a tile's width
  std::vector<float> values(kRows * kColumns);
  Distribution("student4").sample(values, 5, 0);
  const ConstMatrix matrix{values.data(), DType::kF32, kRows, kColumns, kColumns};
  const BlockFormat& format = find_format(GetParam());
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    for (const int hadamard : {0, 16, 128}) {
      MatrixAnalysis analysis;
      analysis.schemes = {{.format = &format, .hadamard = hadamard}};
      if (format.rule == ScaleRule::kAmax) {
        analysis.schemes.push_back({&format, hadamard, 64, Rounding::kStochastic});
      }
      analysis.hadamard_seed = 3;
      analysis.random = {9, 2, 1, 16, 32};
      analysis.threads = 3;
      const MatrixReport report = analyze_matrix(source_of(matrix, axis), analysis);
      for (const SchemeFigures& entry : report.schemes) {
        QuantizeSpec spec;
        spec.format = &format;
        spec.block = entry.scheme.block;
        spec.axis = axis;
        spec.rounding = entry.scheme.rounding;
        spec.hadamard = make_hadamard(hadamard, 3);
        spec.random = analysis.random;
        const Direct direct = quantize_whole(matrix, spec);
        const Figures& f = entry.figures;
        // |q|^2 / |x|^2 = NMSE - 1 + 2 alpha.
        const double xx = report.rms * report.rms * kRows * kColumns;
        EXPECT_NEAR(f.nmse - 1 + 2 * f.alpha, direct.qq / xx, 2e-6) << hadamard;
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

INSTANTIATE_TEST_SUITE_P(Formats, EverySchemeTest, testing::ValuesIn(names()),
                         [](const auto& test) { return test.param; });

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
    if (s.scheme.hadamard != 0) continue;  // whose signs leave values of several sizes
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
