#include "analysis/gradient_bias.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace ufp4::analysis {
namespace {

using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

ErrorProducts products_of(const Vector& g, const std::vector<Vector>& draws) {
  ErrorProducts p(draws.size());
  std::vector<Vector> errors = draws;
  for (Vector& d : errors) {
    for (std::size_t i = 0; i < d.size(); ++i) d[i] -= g[i];
  }
  p.square = dot(g, g);
  for (std::size_t k = 0; k < draws.size(); ++k) {
    p.along[k] = dot(g, errors[k]);
    for (std::size_t l = 0; l < draws.size(); ++l) p.between[k * draws.size() + l] = dot(errors[k], errors[l]);
  }
  return p;
}

// Every sample of three draws from four equally likely gradients: the figures are right on average over all 64.
TEST(GradientBias, HasNoBiasOfItsOwnByExactEnumeration) {
  const Vector g{1, 2, -1};
  const std::array<Vector, 4> possible{Vector{1.5, 2, -1}, {0.5, 2.5, -1}, {1, 1.2, 0}, {0.2, 2, -2.2}};
  Vector mean(3, 0.0);
  for (const Vector& v : possible) {
    for (std::size_t i = 0; i < 3; ++i) mean[i] += v[i] / 4;
  }
  Vector bias = mean;
  for (std::size_t i = 0; i < 3; ++i) bias[i] -= g[i];
  double variance = 0;
  for (const Vector& v : possible) {
    for (std::size_t i = 0; i < 3; ++i) variance += (v[i] - mean[i]) * (v[i] - mean[i]) / 4;
  }
  const double gg = dot(g, g);
  double bias_squared = 0;
  double alpha = 0;
  double spread = 0;
  for (std::size_t sample = 0; sample < 64; ++sample) {
    const GradientFigures f =
        gradient_figures(products_of(g, {possible[sample % 4], possible[sample / 4 % 4], possible[sample / 16]}));
    bias_squared += f.bias_squared.value / 64;
    alpha += f.alpha.value / 64;
    // Before it is cut off at zero: the mean square error less the bias.
    spread += (std::pow(10.0, -f.sqnr_db / 10) - f.bias_squared.value) / 64;
  }
  EXPECT_NEAR(bias_squared, dot(bias, bias) / gg, 1e-12);
  EXPECT_NEAR(alpha, dot(mean, g) / gg, 1e-12);
  EXPECT_NEAR(spread, variance / gg, 1e-12);
}

TEST(GradientBias, WithoutChanceItIsTheErrorItself) {
  const Vector g{3, 4};
  const GradientFigures f = gradient_figures(products_of(g, {{2.7, 3.9}, {2.7, 3.9}, {2.7, 3.9}}));
  EXPECT_NEAR(f.alpha.value, (2.7 * 3 + 3.9 * 4) / 25, 1e-12);
  EXPECT_NEAR(f.bias, std::sqrt(0.09 + 0.01) / 5, 1e-12);
  EXPECT_NEAR(f.bias_highest, f.bias, 1e-9);
  EXPECT_NEAR(f.bias_lowest, f.bias, 1e-9);
  EXPECT_NEAR(f.bias * f.bias, f.bias_across * f.bias_across + std::pow(1 - f.alpha.value, 2), 1e-12);
  EXPECT_NEAR(f.variance, 0, 1e-12);
  EXPECT_NEAR(f.sqnr_db, -10 * std::log10(0.1 / 25), 1e-9);
  const double norm = std::sqrt(2.7 * 2.7 + 3.9 * 3.9);
  EXPECT_NEAR(f.cosine, (2.7 * 3 + 3.9 * 4) / (5 * norm), 1e-12);
}

// An estimate without bias: the interval of bias_squared holds zero, and that of alpha one, in most samples.
TEST(GradientBias, IntervalsHoldTheTruth) {
  constexpr int kSamples = 200;
  constexpr std::size_t kDraws = 8;
  constexpr std::size_t kSize = 64;
  const Vector g(kSize, 1.0);
  std::uint64_t state = 1;
  const auto uniform = [&] {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<double>(state >> 40) / (1 << 24);
  };
  int held_bias = 0;
  int held_alpha = 0;
  for (int s = 0; s < kSamples; ++s) {
    std::vector<Vector> draws(kDraws, Vector(kSize));
    for (Vector& draw : draws) {
      for (double& v : draw) v = 0.5 + uniform();
    }
    const GradientFigures f = gradient_figures(products_of(g, draws));
    held_bias += std::abs(f.bias_squared.value) <= f.bias_squared.half_width ? 1 : 0;
    held_alpha += std::abs(f.alpha.value - 1) <= f.alpha.half_width ? 1 : 0;
  }
  EXPECT_GE(held_bias, kSamples * 85 / 100);
  EXPECT_GE(held_alpha, kSamples * 90 / 100);
}

TEST(GradientBias, PartsAddUpToTheWhole) {
  const Vector g{1, 2, 3, 4};
  const std::vector<Vector> draws{{1, 2.5, 3, 3}, {0.5, 2, 3.5, 4}, {1, 1, 3, 4.5}};
  const auto part = [&](std::size_t from) {
    std::vector<Vector> parts;
    parts.reserve(draws.size());
    for (const Vector& d : draws)
      parts.emplace_back(d.begin() + static_cast<long>(from), d.begin() + static_cast<long>(from) + 2);
    return products_of({g[from], g[from + 1]}, parts);
  };
  ErrorProducts sum = part(0);
  sum += part(2);
  const ErrorProducts whole = products_of(g, draws);
  EXPECT_NEAR(gradient_figures(sum).bias_squared.value, gradient_figures(whole).bias_squared.value, 1e-12);
  EXPECT_NEAR(gradient_figures(sum).variance, gradient_figures(whole).variance, 1e-12);
  EXPECT_THROW(sum += ErrorProducts(2), std::invalid_argument);
}

TEST(GradientBias, FewDrawsAndNoGradient) {
  EXPECT_THROW(gradient_figures(ErrorProducts(1)), std::invalid_argument);
  EXPECT_TRUE(std::isnan(gradient_figures(products_of({1, 1}, {{1, 2}, {2, 1}})).bias_squared.half_width));
  EXPECT_TRUE(std::isnan(gradient_figures(products_of({0, 0}, {{1, 2}, {2, 1}})).alpha.value));
}

}  // namespace
}  // namespace ufp4::analysis
