// What is measured between values and their quantized image (docs/numerics.md, "What is measured").
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
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

// Sums over values x and their images q, in FP64; partial sums of threads add up.
struct Sums {
  double xx = 0, xq = 0, qq = 0;
  std::int64_t count = 0;

  void add(double x, double q) {
    xx += x * x;
    xq += x * q;
    qq += q * q;
    ++count;
  }
  Sums& operator+=(const Sums& other) {
    xx += other.xx;
    xq += other.xq;
    qq += other.qq;
    count += other.count;
    return *this;
  }
  double alpha() const { return xx == 0 ? 1 : xq / xx; }
  double nmse() const { return xx == 0 ? 0 : (qq - 2 * xq + xx) / xx; }
};

}  // namespace ufp4::analysis
