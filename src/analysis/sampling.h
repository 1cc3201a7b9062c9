// The same figures measured: draws from a distribution through the quantizer itself.
#pragma once

#include <cstdint>

#include "analysis/distribution.h"
#include "analysis/statistics.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

// Quantizes `count` draws (rounded up to whole rows of 4096) with `spec`, rowwise, and measures the result against the
// transformed draws. level_share and level_mean_error are by the code's magnitude, so that the code -8 counts as an
// eighth level; they are empty for formats whose blocks choose between grids.
Figures sampled_figures(const QuantizeSpec& spec, const Distribution& distribution, std::int64_t count,
                        std::uint64_t seed);

}  // namespace ufp4::analysis
