#include "analysis/theory.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "ufp4/error.h"

namespace ufp4::analysis {
namespace {

// Gauss-Legendre nodes and weights of order 8 on [-1, 1].
constexpr std::array<double, 4> kNodes{0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363};
constexpr std::array<double, 4> kWeights{0.3626837833783620, 0.3137066458778873, 0.2223810344533745,
                                         0.1012285362903763};

// Calls f(x, weight) for a composite rule on [begin, end].
template <class F>
void integrate(double begin, double end, int panels, F&& f) {
  const double half = (end - begin) / panels / 2;
  for (int p = 0; p < panels; ++p) {
    const double middle = begin + (2 * p + 1) * half;
    for (std::size_t i = 0; i < kNodes.size(); ++i) {
      f(middle - half * kNodes[i], half * kWeights[i]);
      f(middle + half * kNodes[i], half * kWeights[i]);
    }
  }
}

// Sums of the integral over the largest magnitude.
struct Accumulated {
  double xx = 0, xq = 0, qq = 0, weight = 0;
  std::vector<double> share;  // probability of each level
  std::vector<double> error;  // of (level - value / scale) in each bin
};

std::string list_of(std::span<const double> whole_numbers) {
  std::string list;
  for (const double number : whole_numbers) {
    if (!list.empty()) list += ',';
    list += std::to_string(static_cast<int>(number));
  }
  return list;
}

void add_block(Accumulated& sum, const std::vector<Bin>& bins, const Distribution& distribution, double m,
               double weight, int block) {
  const double scale = m / bins.back().level;
  const double others = block - 1;
  const double mass = distribution.moments_below(m)[0];
  std::array<double, 3> below{};
  for (std::size_t k = 0; k < bins.size(); ++k) {
    const std::array<double, 3> up_to = distribution.moments_below(std::min(bins[k].upper * scale, m));
    const double p = others * (up_to[0] - below[0]) / mass;
    const double x = others * (up_to[1] - below[1]) / mass;
    const double xx = others * (up_to[2] - below[2]) / mass;
    below = up_to;
    const double q = bins[k].level * scale;
    sum.xx += weight * xx;
    sum.xq += weight * q * x;
    sum.qq += weight * q * q * p;
    sum.share[k] += weight * p;
    sum.error[k] += weight * (bins[k].level * p - x / scale);
  }
  // The largest itself: exactly the last level.
  sum.xx += weight * m * m;
  sum.xq += weight * m * m;
  sum.qq += weight * m * m;
  sum.share.back() += weight;
  sum.weight += weight;
}

}  // namespace

Figures expected_figures(const Grid& grid, const Distribution& distribution, int block) {
  if (block < 2) throw InputError("block " + std::to_string(block) + ": the expectation needs 2 values or more");
  const std::vector<Bin> bins = bins_of(grid);
  Accumulated sum;
  sum.share.resize(bins.size());
  sum.error.resize(bins.size());
  // In the logarithm of m the integrand is smooth and a power-law tail decays exponentially. Beyond the ends the
  // largest of a block does not lie: G(e^-7)^(block-1) is nothing for 16 values, and far tails carry nothing of the
  // moments.
  const double begin = block >= 8 ? -7 : -30;
  const double end = std::isfinite(distribution.upper_end()) ? std::log(distribution.upper_end()) : 20;
  integrate(begin, end, 160, [&](double s, double weight) {
    const double m = std::exp(s);
    const double density = distribution.density(m);
    if (density == 0) return;
    const double largest = block * density * std::pow(distribution.moments_below(m)[0], block - 1) * m;
    if (largest > 0) add_block(sum, bins, distribution, m, weight * largest, block);
  });

  Figures figures;
  figures.alpha = sum.xq / sum.xx;
  figures.nmse = (sum.qq - 2 * sum.xq + sum.xx) / sum.xx;
  const double values = sum.weight * block;
  for (std::size_t k = 0; k < bins.size(); ++k) {
    figures.level_mean_error.push_back(sum.share[k] > 0 ? sum.error[k] / sum.share[k] : 0);
    figures.level_share.push_back(sum.share[k] / values);
  }
  figures.zero_share = figures.level_share[0];
  figures.bucket_ratio = effective_bucket_ratio(signed_shares(figures.level_share));
  return figures;
}

std::vector<Grid> rank_integer_grids(int level_count, int largest, const std::function<double(const Grid&)>& error) {
  if (level_count < 2 || level_count > 8 || largest < level_count - 1) {
    throw InputError("sweep: " + std::to_string(level_count) + " levels up to " + std::to_string(largest) +
                     ", expected 2 to 8 levels and a largest of at least levels - 1");
  }
  double family = 1;
  for (int i = 1; i <= level_count - 2; ++i) family = family * (largest - i) / i;
  if (family > 200000) {
    throw InputError("sweep: " + std::to_string(static_cast<long long>(family)) +
                     " grids, expected at most 200000: lower the largest level");
  }
  std::vector<std::pair<double, Grid>> ranked;
  // Chooses level_count - 2 of the numbers 1 .. largest - 1, as a mask in lexicographic order.
  std::vector<char> chosen(static_cast<std::size_t>(largest - 1), 0);
  std::fill(chosen.begin(), chosen.begin() + (level_count - 2), 1);
  do {
    std::vector<double> levels{0};
    int divisor = largest;
    for (int value = 1; value < largest; ++value) {
      if (chosen[static_cast<std::size_t>(value - 1)] == 0) continue;
      levels.push_back(value);
      divisor = std::gcd(divisor, value);
    }
    levels.push_back(largest);
    for (double& level : levels) level /= divisor;  // a multiple of a smaller grid is that grid
    Grid grid = make_grid(list_of(levels), levels);
    const double own = error(grid);
    ranked.emplace_back(own, std::move(grid));
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Grid> grids;
  grids.reserve(ranked.size());
  for (auto& [score, grid] : ranked) grids.push_back(std::move(grid));
  return grids;
}

}  // namespace ufp4::analysis
