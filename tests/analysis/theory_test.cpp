#include "analysis/theory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analysis/sampling.h"
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
  EXPECT_NE(message("0,2,1").find("level 2 is 1"), std::string::npos);
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

// The expectation by quadrature and 10^7 draws through the quantizer agree.
TEST(Theory, QuadratureAgreesWithSamples) {
  for (const char* name : {"uniform", "normal", "laplace", "student5"}) {
    for (const char* format : {"e1m2", "e2m1", "e2m1_max3"}) {
      const Distribution d(name);
      QuantizeSpec spec;
      spec.format = &find_format(format);
      const Figures exact = expected_figures(grid_of(*spec.format), d, 16);
      const Figures sampled = sampled_figures(spec, d, 4'000'000, 7);
      EXPECT_NEAR(exact.alpha, sampled.alpha, 3e-4) << name << " " << format;
      EXPECT_NEAR(exact.sqnr_db(), sampled.sqnr_db(), 0.03) << name << " " << format;
      EXPECT_NEAR(exact.bucket_ratio, sampled.bucket_ratio, 1e-3) << name << " " << format;
      for (std::size_t k = 0; k < exact.level_share.size(); ++k) {
        EXPECT_NEAR(exact.level_share[k], sampled.level_share[k], 1e-3) << name << " " << format << " level " << k;
        EXPECT_NEAR(exact.level_mean_error[k], sampled.level_mean_error[k], 4e-3)
            << name << " " << format << " level " << k;
      }
    }
  }
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
  const std::vector<RankedGrid> ranked = rank_integer_grids(4, 6, Distribution("normal"), 16);
  EXPECT_EQ(ranked.size(), 10u);  // 5 choose 2
  for (std::size_t i = 1; i < ranked.size(); ++i) EXPECT_LE(ranked[i - 1].figures.nmse, ranked[i].figures.nmse);
  bool found = false;
  for (const RankedGrid& r : ranked) found = found || r.grid.name == "0,1,2,3";
  EXPECT_TRUE(found);
  EXPECT_THROW(rank_integer_grids(8, 60, Distribution("normal"), 16), InputError);
}

}  // namespace
}  // namespace ufp4::analysis
