// Bias and variance of a random estimate of a gradient, from draws of it: how far the mean of the draws lies from the
// true gradient, without what so few draws explain by chance.
#pragma once

#include <cstddef>
#include <vector>

namespace ufp4::analysis {

// Inner products of a true gradient g and the errors d_k = g_k - g of K draws. Those of several tensors add up to those
// of the tensors taken as one.
struct ErrorProducts {
  std::size_t draws = 0;
  double square = 0;            // <g, g>
  std::vector<double> along;    // <g, d_k>, K
  std::vector<double> between;  // <d_k, d_l>, K x K

  explicit ErrorProducts(std::size_t draws_ = 0) : draws(draws_), along(draws_), between(draws_ * draws_) {}
  double at(std::size_t k, std::size_t l) const { return between[k * draws + l]; }
  // Throws std::invalid_argument for another number of draws.
  ErrorProducts& operator+=(const ErrorProducts& other);
};

// An estimate with half the width of its 95 % interval; NaN where the draws are too few for one.
struct Interval {
  double value = 0;
  double half_width = 0;
};

// All relative to |g|. Undefined (NaN) for a gradient of zero.
struct GradientFigures {
  Interval alpha;  // <E[g^], g> / |g|^2: what is left of the gradient
  // |E[g^] - g|^2 / |g|^2: the mean of <d_k, d_l> over pairs of different draws, which has no bias of its own. It may
  // come out below zero where the true one is small. Interval: the jackknife over draws.
  Interval bias_squared;
  double bias = 0;         // its root; 0 where it is below zero
  double bias_lowest = 0;  // the same of the ends of its interval
  double bias_highest = 0;
  double bias_across = 0;  // the part of the bias that is orthogonal to g, estimated in the same way
  double variance = 0;     // E |g^ - E[g^]|^2 / |g|^2
  double cosine = 0;       // of a draw with g, on average
  double sqnr_db = 0;      // -10 log10 of the mean |d_k|^2 / |g|^2
};

// Throws std::invalid_argument for fewer than two draws.
GradientFigures gradient_figures(const ErrorProducts& products);

}  // namespace ufp4::analysis
