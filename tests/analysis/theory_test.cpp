#include "analysis/theory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analysis/sampling.h"
#include "analysis/sorted_draws.h"
#include "ufp4/error.h"

namespace ufp4::analysis {
namespace {

TEST(Grid, BinsCarryTheBiasOfEquation2) {
  const std::vector<Bin> e2m1 = bins_of(grid_of(find_format("e2m1")));
  const std::vector<double> expected{0, 0, 0, 0, -0.125, 0, -0.25, 0};
  for (std::size_t i = 0; i < e2m1.size(); ++i)
    EXPECT_DOUBLE_EQ(e2m1[i].bias, expected[i]) << "level " << e2m1[i].level;
  for (const Bin& bin : bins_of(grid_of(find_format("e1m2")))) EXPECT_DOUBLE_EQ(bin.bias, 0);
}

TEST(Grid, RefusesWhatIsNoGrid) {
  const auto message = [](const std::string& text) {
    try {
      parse_grid(text);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message("0,2,1").find("level 2 is 1, expected a finite FP32 number above 2"), std::string::npos);
  EXPECT_NE(message("0,1,1e40").find("level 2 is 1e+40"), std::string::npos);
  EXPECT_NE(message("0,1,1.00000000001").find("level 2 is 1.00000000001"), std::string::npos);
  EXPECT_NE(message("1,2").find("expected 0"), std::string::npos);
  EXPECT_NE(message("0,1,2,3,4,5,6,7,8").find("9 levels"), std::string::npos);
  EXPECT_NE(message("0,x").find("'x' is not a number"), std::string::npos);
  EXPECT_NE(message("0,1,").find("'' is not a number"), std::string::npos);
  EXPECT_NE(message("0,1,inf").find("finite"), std::string::npos);
}

// Partial moments against a fine midpoint rule.
TEST(Distribution, PartialMomentsAreTheIntegralsOfTheDensity) {
  for (const char* name : {"uniform", "normal", "laplace", "student3", "student4", "student5", "student10"}) {
    const Distribution d(name);
    for (const double end : {0.3, 0.9, 2.5}) {
      std::array<double, 3> sum{};
      constexpr int kSteps = 100000;
      for (int i = 0; i < kSteps; ++i) {
        const double x = end * (i + 0.5) / kSteps;
        const double p = d.density(x) * end / kSteps;
        sum[0] += p;
        sum[1] += p * x;
        sum[2] += p * x * x;
      }
      for (std::size_t j = 0; j < 3; ++j)
        EXPECT_NEAR(d.moments_below(end)[j], sum[j], 2e-5) << name << " below " << end;
    }
  }
  EXPECT_THROW(Distribution("gauss"), InputError);
  EXPECT_THROW(Distribution("student2"), InputError);
}

constexpr std::int64_t kDraws = 10'000'000;

// The expectation by quadrature and 10^7 draws through the quantizer agree, for each distribution.
class QuadratureTest : public testing::TestWithParam<std::string> {};

TEST_P(QuadratureTest, AgreesWithSamples) {
  const Distribution d(GetParam());
  const Grid odd = make_grid("odd", std::vector<double>{0, 1, 2.5, 3, 7});  // no format, and no kernels
  const BlockFormat odd_format = format_of(odd);
  std::vector<Grid> grids{odd};
  std::vector<OperandSpec> specs(1);
  specs[0].format = &odd_format;
  for (const char* name : {"e1m2", "e2m1", "e2m1_max3"}) {
    grids.push_back(grid_of(find_format(name)));
    specs.emplace_back().format = &find_format(name);
  }
  const std::vector<Figures> all = sampled_figures(specs, d, kDraws, 7, 2);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const std::string& name = grids[i].name;
    const Figures& sampled = all[i];
    const Figures exact = expected_figures(grids[i], d, 16);
    EXPECT_NEAR(exact.alpha, sampled.alpha, 2e-4) << name;
    EXPECT_NEAR(exact.sqnr_db(), sampled.sqnr_db(), 0.015) << name;
    EXPECT_NEAR(exact.bucket_ratio, sampled.bucket_ratio, 5e-4) << name;
    for (std::size_t k = 0; k < exact.level_share.size(); ++k) {
      EXPECT_NEAR(exact.level_share[k], sampled.level_share[k], 6e-4) << name << " level " << k;
      EXPECT_NEAR(exact.level_mean_error[k], sampled.level_mean_error[k], 3e-3) << name << " level " << k;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Distributions, QuadratureTest, testing::Values("uniform", "normal", "laplace", "student5"),
                         [](const auto& test) { return test.param; });

TEST(Sampling, ThreadsChangeNoBit) {
  OperandSpec spec;
  spec.format = &find_format("e2m1");
  const Distribution laplace("laplace");
  const std::int64_t draws = 5 << 18;
  const Figures one = sampled_figures({&spec, 1}, laplace, draws, 1, 1)[0];
  const Figures three = sampled_figures({&spec, 1}, laplace, draws, 1, 3)[0];
  EXPECT_EQ(one.nmse, three.nmse);
  EXPECT_EQ(one.alpha, three.alpha);
  EXPECT_EQ(one.level_mean_error, three.level_mean_error);
}

// After the transform any block is near a normal one: nearer than it was.
TEST(Sampling, TheTransformBringsBlocksNearNormalOnes) {
  OperandSpec spec;
  spec.format = &find_format("e1m2");
  spec.hadamard = make_hadamard(16, 1);
  const Figures after = sampled_figures({&spec, 1}, Distribution("laplace"), 1 << 20, 1, 2)[0];
  const Grid grid = grid_of(*spec.format);
  const double normal = expected_figures(grid, Distribution("normal"), 16).sqnr_db();
  const double before = expected_figures(grid, Distribution("laplace"), 16).sqnr_db();
  EXPECT_LT(std::fabs(after.sqnr_db() - normal), 0.3 * std::fabs(before - normal));
}

// The figures of docs/numerics.md for normal data.
TEST(Theory, NormalDataHasThePublishedFigures) {
  const Distribution normal("normal");
  EXPECT_NEAR(expected_figures(grid_of(find_format("e1m2")), normal, 16).sqnr_db(), 21.39, 0.02);
  EXPECT_NEAR(expected_figures(grid_of(find_format("e1m2")), normal, 16).alpha, 1.0006, 2e-4);
  EXPECT_NEAR(expected_figures(grid_of(find_format("e2m1")), normal, 16).sqnr_db(), 20.53, 0.02);
  EXPECT_NEAR(expected_figures(grid_of(find_format("e2m1")), normal, 16).alpha, 0.9959, 2e-4);
}

TEST(Theory, ShrinkageIsInTheBinsWhereTheSpacingChanges) {
  const Figures e2m1 = expected_figures(grid_of(find_format("e2m1")), Distribution("normal"), 16);
  EXPECT_LT(e2m1.level_mean_error[4], -0.05);  // level 2
  EXPECT_LT(e2m1.level_mean_error[6], -0.05);  // level 4
}

TEST(Theory, SweepFindsTheUniformGridAndKnowsMultiples) {
  const auto error = [](const Grid& grid) { return expected_figures(grid, Distribution("normal"), 16).nmse; };
  const std::vector<Grid> ranked = rank_integer_grids(4, 6, error);
  EXPECT_EQ(ranked.size(), 10u);  // 5 choose 2
  for (std::size_t i = 1; i < ranked.size(); ++i) EXPECT_LE(error(ranked[i - 1]), error(ranked[i]));
  bool found = false;
  for (const Grid& grid : ranked) found = found || grid.name == "0,1,2,3";
  EXPECT_TRUE(found);
  EXPECT_NO_THROW(rank_integer_grids(8, 26, [](const Grid&) { return 0.0; }));
  EXPECT_THROW(rank_integer_grids(8, 27, error), InputError);
}

// What ranks grids after the transform is what the quantizer does to the same draws.
TEST(SortedDraws, HaveTheErrorOfTheQuantizer) {
  const Distribution laplace("laplace");
  constexpr std::int64_t kCount = 1 << 18;  // whole parts of sampled_figures
  for (const int size : {0, 16, 64}) {
    const SortedDraws draws(laplace, make_hadamard(size, 3), 32, kCount, 5);
    for (const char* name : {"e1m2", "e2m1", "e2m1_max3"}) {
      OperandSpec spec;
      spec.format = &find_format(name);
      spec.block = 32;
      spec.hadamard = make_hadamard(size, 3);
      const double measured = sampled_figures({&spec, 1}, laplace, kCount, 5)[0].nmse;
      EXPECT_NEAR(draws.nmse(grid_of(*spec.format)), measured, 1e-5 * measured) << name << ", transform " << size;
    }
  }
}

}  // namespace
}  // namespace ufp4::analysis
