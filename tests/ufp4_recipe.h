// The recipe ufp4 without the file that the program reads it from.
#pragma once

#include "config/recipe_keys.h"

namespace ufp4 {

inline Recipe ufp4_recipe() {
  Recipe recipe;
  set(recipe, "name", "ufp4");
  set(recipe, "*.*.format", "e1m2");
  set(recipe, "*.hadamard", "16");
  set(recipe, "*.dy.rounding", "sr");
  return recipe;
}

}  // namespace ufp4
