#include "analysis/sorted_draws.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "analysis/transform.h"

namespace ufp4::analysis {

SortedDraws::SortedDraws(const Distribution& distribution, const Hadamard& hadamard, int block, std::int64_t count,
                         std::uint64_t seed) {
  const std::int64_t unit = std::max(block, hadamard.size);
  std::vector<float> values(static_cast<std::size_t>((count + unit - 1) / unit * unit));
  distribution.sample(values, seed, 0);
  transform_runs(values, hadamard);
  std::vector<std::pair<float, float>> draws;  // ratio and m
  draws.reserve(values.size());
  for (std::size_t first = 0; first < values.size(); first += static_cast<std::size_t>(block)) {
    const auto own = std::span(values).subspan(first, static_cast<std::size_t>(block));
    float largest = 0;
    for (const float value : own) largest = std::max(largest, std::fabs(value));
    if (largest == 0) continue;
    for (const float value : own) draws.emplace_back(std::fabs(value) / largest, largest);
  }
  std::sort(draws.begin(), draws.end());
  ratio_.reserve(draws.size());
  squares_.reserve(draws.size() + 1);
  products_.reserve(draws.size() + 1);
  double squares = 0;
  double products = 0;
  for (const auto& [ratio, largest] : draws) {
    squares_.push_back(squares);
    products_.push_back(products);
    ratio_.push_back(ratio);
    const double square = static_cast<double>(largest) * largest;
    squares += square;
    products += square * ratio;
    signal_ += square * ratio * ratio;
  }
  squares_.push_back(squares);
  products_.push_back(products);
}

double SortedDraws::nmse(const Grid& grid) const {
  if (signal_ == 0) return 0;
  double error = signal_;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < grid.levels.size(); ++k) {
    std::size_t end = ratio_.size();
    if (k + 1 < grid.levels.size()) {
      const double middle = (grid.levels[k] + grid.levels[k + 1]) / (2 * grid.largest());
      end = static_cast<std::size_t>(std::upper_bound(ratio_.begin(), ratio_.end(), middle) - ratio_.begin());
    }
    const double level = grid.levels[k] / grid.largest();
    error += level * level * (squares_[end] - squares_[begin]) - 2 * level * (products_[end] - products_[begin]);
    begin = end;
  }
  return error / signal_;
}

}  // namespace ufp4::analysis
