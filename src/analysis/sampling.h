// The same figures measured: draws from a distribution through the quantizer itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/distribution.h"
#include "analysis/grid.h"
#include "analysis/statistics.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

// Quantizes `count` draws (rounded up to whole parts of 64 rows of 4096) with every spec and measures the results, on
// several threads, whose number changes nothing but the time.
std::vector<Figures> sampled_figures(std::span<const OperandSpec> specs, const Distribution& distribution,
                                     std::int64_t count, std::uint64_t seed, int threads = 1);

// A format whose elements have the levels of a grid, under FP32 scales.
BlockFormat format_of(const Grid& grid);

}  // namespace ufp4::analysis
