// Draws from a distribution after the random Hadamard transform, kept so that the error of any grid on them costs a few
// searches: what ranks many grids where no expectation in closed form is known.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/distribution.h"
#include "analysis/grid.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

class SortedDraws {
 public:
  // `count` draws, rounded up to whole blocks and runs of the transform.
  SortedDraws(const Distribution& distribution, const Hadamard& hadamard, int block, std::int64_t count,
              std::uint64_t seed);

  // NMSE under round-to-nearest with scale = largest of the block / L, in real arithmetic: the quantizer's own but for
  // its FP32 rounding.
  double nmse(const Grid& grid) const;

 private:
  std::vector<float> ratio_;  // |value| / m, m the largest magnitude of its block, ascending
  // Sums of m^2 and m |value| over the draws before each place, and of value^2 over all.
  std::vector<double> squares_;
  std::vector<double> products_;
  double signal_ = 0;
};

}  // namespace ufp4::analysis
