// The outcome of a comparison for people.
#pragma once

#include <string>

#include "train/compare.h"

namespace ufp4::app {

// A row a recipe, then a line for each pair of recipes: whether their difference is beyond its uncertainty.
std::string compare_table(const Comparison& comparison);

}  // namespace ufp4::app
