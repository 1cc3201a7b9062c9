// What is measured between values and their quantized image (docs/numerics.md, "What is measured").
#pragma once

#include <cmath>
#include <span>
#include <vector>

namespace ufp4::analysis {

// The figures of one operand, format and transform.
struct Figures {
  double alpha = 1;                      // <Q, X> / <X, X>
  double nmse = 0;                       // |Q - X|^2 / |X|^2
  double bucket_ratio = 0;               // B_eff = exp(entropy of the codes' use) / number of distinct signed values
  double zero_share = 0;                 // of the values, rounded to zero
  double clamped_share = 0;              // of the values, beyond the largest level
  std::vector<double> level_share;       // of the values, by magnitude level
  std::vector<double> level_mean_error;  // mean of (level - |value| / scale), by magnitude level; 0 where none fell

  double delta() const { return 1 - alpha; }
  double sqnr_db() const { return -10 * std::log10(nmse); }
};

// exp(-sum p ln p) / K over the shares of the K distinct signed values; shares of 0 add nothing.
double effective_bucket_ratio(std::span<const double> shares);

// Shares of the signed values of a symmetric grid, from the shares of its magnitude levels (the first is zero's).
std::vector<double> signed_shares(std::span<const double> level_shares);

}  // namespace ufp4::analysis
