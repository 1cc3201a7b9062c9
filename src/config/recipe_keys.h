// A recipe as a list of `key = value`: what a recipe file holds, and every change of a recipe.
//
// Keys: name, summary, keep_bf16, GEMM.hadamard, and for each operand GEMM.OPERAND.format, .block, .rounding, .outer,
// .tau and .amax. `*` for a GEMM or an operand stands for all of them: "*.hadamard", "*.dy.rounding". The tables in
// recipe_keys.cpp have their values, defaults and meanings.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/key.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// Sets one key. Throws InputError that names the key, the value and what was expected, or a near key.
void set(Recipe& recipe, std::string_view key, std::string_view value);

// The recipe as `key = value` pairs that set() accepts, every key once, in a fixed order.
std::vector<std::pair<std::string, std::string>> entries(const Recipe& recipe);

// One key, or those that differ in GEMM and operand alone: "GEMM.OPERAND.format".
struct RecipeKeyFacts {
  std::string pattern;
  KeyFacts facts;
  std::string initial;             // value of a recipe that sets nothing
  std::vector<std::string> names;  // every key of the pattern
};

std::vector<RecipeKeyFacts> recipe_key_facts();

}  // namespace ufp4
