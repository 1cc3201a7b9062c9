// A 4-bit grid as the theory sees it: the positive levels, their rounding bins, and the bias that Eq. 2 of the paper
// (arXiv 2606.20381) predicts for each bin from the levels alone.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ufp4/format.h"

namespace ufp4::analysis {

// Positive half of a grid symmetric about zero; the largest level is what the largest magnitude of a block is scaled
// to.
struct Grid {
  std::string name;
  std::vector<double> levels;  // ascending, from 0; 2 to 8 of them

  double largest() const { return levels.back(); }
};

// Throws InputError unless the levels begin at 0, increase strictly, are finite and 2 to 8.
Grid make_grid(std::string name, std::span<const double> levels);

// "0,0.5,1,1.5,2,3,4,6" to a grid with that name. Throws InputError that names the entry.
Grid parse_grid(const std::string& text);

// The grid of a named format's elements. For full two's complement elements it is the half that both signs have.
Grid grid_of(const BlockFormat& format);

// The values that round to one level, in units of the scale.
struct Bin {
  double level = 0;
  double lower = 0;      // half way to the level below; 0 for the level 0
  double upper = 0;      // half way to the level above; the level itself for the largest
  double asymmetry = 0;  // (upper - level) - (level - lower); 0 for the first and the last, which are one-sided
  double bias = 0;  // Eq. 2: mean of (level - value) with a uniform density in the bin, (2q - q_below - q_above) / 4
};

std::vector<Bin> bins_of(const Grid& grid);

}  // namespace ufp4::analysis
