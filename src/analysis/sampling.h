// The same figures measured: draws from a distribution through the quantizer itself.
#pragma once

#include <cstdint>

#include "analysis/distribution.h"
#include "analysis/statistics.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

// Quantizes `count` draws (rounded up to whole parts of 64 rows of 4096) with `spec` and measures the result.
Figures sampled_figures(const QuantizeSpec& spec, const Distribution& distribution, std::int64_t count,
                        std::uint64_t seed);

}  // namespace ufp4::analysis
