// The table of the settings that are neither the model's nor the recipe's, and the list of all.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace ufp4 {

std::span<const Key<RunConfig>> run_keys();

// The keys from which the other keys of a model and of a recipe start.
std::span<const KeyFacts> base_keys();

}  // namespace ufp4
