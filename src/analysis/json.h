// The figures as JSON, the same wherever the program writes them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "analysis/matrix.h"

namespace ufp4::analysis {

// -10 log10(nmse); null for an exact image, which has no finite ratio.
nlohmann::ordered_json decibel(double nmse);

// alpha, NMSE, B_eff, shares and mean errors by level.
nlohmann::ordered_json to_json(const Figures& figures);

// Shape, crest factor and, under "schemes", the figures of each scheme with the gain of its transform.
nlohmann::ordered_json to_json(const MatrixReport& report);

// A format's levels with what is expected of each bin: Eq. 2's bias, and mean error and share under normal values,
// which any block approaches under the transform. The latter two are null where the scale does not put the largest
// value of a block on the last level.
nlohmann::ordered_json expected_bins(const BlockFormat& format);

}  // namespace ufp4::analysis
