// The named recipes, and the ways to ask for one in text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/recipe_keys.h"
#include "config/toml_file.h"

namespace ufp4 {

// The recipes compiled in, in alphabetical order with bf16 first.
std::vector<std::string_view> known_recipes();

// A name compiled in, or the path of a TOML file (anything with a '/' or that ends in ".toml"). Validated. Throws
// InputError with a near name.
Recipe load_recipe(const std::string& name_or_path);

// set() whose message says where the assignment stands.
void assign(Recipe& recipe, std::string_view key, const Assignment& assignment);

// A recipe with changes of its own, as options of the program name one.
struct RecipeChoice {
  std::string label;                    // for people: as it was given, but a file by the name inside it
  Recipe recipe;                        // validated, called as the label if it is changed
  std::vector<Assignment> assignments;  // the same as settings of a run: recipe.base and recipe.* keys
};

// "ufp4:dgrad.hadamard=0:wgrad.dy.rounding=rtne", "my/recipe.toml": a name or a file with any number of ":key=value"
// changes. `option` stands for the text in messages: "--recipe".
RecipeChoice parse_recipe_choice(std::string_view text, std::string_view option);

// For the operators, which read no files: the name of a recipe compiled in, a list "key = value; key = value" that
// starts from BF16, or "name; key = value; .." that changes a named one. Validated.
Recipe find_or_parse_recipe(std::string_view text);

// The name of a recipe, and how it differs from a base of the same name: "ufp4 with dgrad.hadamard=0".
std::string describe_changes(const Recipe& recipe, const Recipe& base);

}  // namespace ufp4
