// What a grid does to independent values whose block is scaled by its largest magnitude: exact expectations by
// quadrature over the largest, with no assumption about the density inside a bin.
#pragma once

#include <functional>
#include <vector>

#include "analysis/distribution.h"
#include "analysis/grid.h"
#include "analysis/statistics.h"

namespace ufp4::analysis {

// Expected figures of a grid under round-to-nearest, for blocks of `block` independent draws, scale = largest / L.
//
// Given the largest magnitude m, it takes the level L exactly and the other block - 1 values are independent draws from
// the distribution cut off at m; every bin then contributes its partial moments. The integral over m has the density
// n g(m) G(m)^(n-1). Ties have no probability.
Figures expected_figures(const Grid& grid, const Distribution& distribution, int block);

// All grids of `level_count` levels 0 < l_1 < .. < l_k = `largest` out of whole numbers, by ascending error. Grids that
// are multiples of one another are one grid. Throws InputError for a family of more than 200,000.
std::vector<Grid> rank_integer_grids(int level_count, int largest, const std::function<double(const Grid&)>& error);

}  // namespace ufp4::analysis
