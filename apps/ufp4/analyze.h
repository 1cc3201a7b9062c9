// What the parts of `ufp4 analyze` share.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "analysis/matrix.h"

namespace ufp4::app {

// A matrix's figures for people: a line that names it, and a line a scheme; with `bins` also a line a level, with what
// falls into its bin and the mean error there.
void print_figures(const std::string& title, const analysis::MatrixReport& report, bool bins);

// What is expected of the bins of each format among the schemes, once.
nlohmann::ordered_json expected_bins_of(const std::vector<OperandSpec>& schemes);

}  // namespace ufp4::app
