#include "analysis/gradient_bias.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

namespace ufp4::analysis {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// 97.5 % quantile of Student's t.
double t_quantile(std::size_t freedom) {
  constexpr std::array kTable{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                              2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
  return freedom <= kTable.size() ? kTable[freedom - 1] : 1.96 + 2.5 / static_cast<double>(freedom);
}

Interval mean_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0;
  for (const double v : values) mean += v / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, t_quantile(values.size() - 1) * std::sqrt(squares / (n * (n - 1)))};
}

// The mean of h(k, l) over pairs of different draws. Its error: the jackknife, which leaves out one draw at a time.
Interval mean_over_pairs(std::size_t draws, const std::function<double(std::size_t, std::size_t)>& h) {
  const auto n = static_cast<double>(draws);
  double sum = 0;
  std::vector<double> of_draw(draws, 0.0);
  for (std::size_t k = 0; k < draws; ++k) {
    for (std::size_t l = 0; l < draws; ++l) {
      if (k == l) continue;
      sum += h(k, l);
      of_draw[k] += h(k, l);
    }
  }
  const double mean = sum / (n * (n - 1));
  if (draws < 3) return {mean, kNan};
  std::vector<double> without(draws);
  double center = 0;
  for (std::size_t k = 0; k < draws; ++k) {
    without[k] = (sum - 2 * of_draw[k]) / ((n - 1) * (n - 2));
    center += without[k] / n;
  }
  double squares = 0;
  for (const double w : without) squares += (w - center) * (w - center);
  return {mean, t_quantile(draws - 1) * std::sqrt(squares * (n - 1) / n)};
}

double root(double square) { return std::isnan(square) ? kNan : std::sqrt(std::max(0.0, square)); }

}  // namespace

ErrorProducts& ErrorProducts::operator+=(const ErrorProducts& other) {
  if (draws != other.draws) throw std::invalid_argument("products of different numbers of draws");
  square += other.square;
  for (std::size_t i = 0; i < along.size(); ++i) along[i] += other.along[i];
  for (std::size_t i = 0; i < between.size(); ++i) between[i] += other.between[i];
  return *this;
}

GradientFigures gradient_figures(const ErrorProducts& p) {
  if (p.draws < 2) throw std::invalid_argument("a bias needs two draws at least");
  const double gg = p.square > 0 ? p.square : kNan;
  std::vector<double> alphas(p.draws);
  std::vector<double> cosines(p.draws);
  double error = 0;
  for (std::size_t k = 0; k < p.draws; ++k) {
    alphas[k] = 1 + p.along[k] / gg;
    const double square_of_draw = gg + 2 * p.along[k] + p.at(k, k);
    cosines[k] = square_of_draw > 0 ? (gg + p.along[k]) / std::sqrt(gg * square_of_draw) : 0;
    error += p.at(k, k) / gg / static_cast<double>(p.draws);
  }
  GradientFigures figures;
  figures.alpha = mean_of(alphas);
  figures.bias_squared = mean_over_pairs(p.draws, [&](std::size_t k, std::size_t l) { return p.at(k, l) / gg; });
  figures.bias = root(figures.bias_squared.value);
  figures.bias_lowest = root(figures.bias_squared.value - figures.bias_squared.half_width);
  figures.bias_highest = root(figures.bias_squared.value + figures.bias_squared.half_width);
  figures.bias_across = root(mean_over_pairs(p.draws, [&](std::size_t k, std::size_t l) {
                               return p.at(k, l) / gg - p.along[k] * p.along[l] / (gg * gg);
                             }).value);
  figures.variance = std::max(0.0, error - figures.bias_squared.value);
  figures.cosine = mean_of(cosines).value;
  figures.sqnr_db = -10 * std::log10(error);
  return figures;
}

}  // namespace ufp4::analysis
